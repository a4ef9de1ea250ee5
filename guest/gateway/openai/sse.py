"""Server-sent events (HTML, §9.2) as OpenAI's streams have them."""

from __future__ import annotations

from typing import Any

import orjson

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which every client skips."""
DONE = b"data: [DONE]\n\n"
END = b"\n\n"


def event(value: Any) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(value) + END
