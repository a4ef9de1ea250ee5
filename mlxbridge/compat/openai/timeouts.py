"""How long a call may take, as openai's programs say it."""

from __future__ import annotations

from typing import Any


class Timeout:
    """httpx's, which need not be installed. A host's call has one time for all of it: that is ``read`` here.

    Args:
        timeout: seconds of each that is left out; None for no limit.
        read: to wait for an answer.
        others: ``connect``, ``write`` and ``pool``, which have no meaning of their own here.
    """

    def __init__(
        self, timeout: float | None = None, *, read: float | None = -1, **others: float | None
    ) -> None:
        self.read = timeout if read == -1 else read
        self.connect = others.get("connect", timeout)


def seconds_of(timeout: Any) -> Any:
    """A timeout's seconds, where it is a ``Timeout``, httpx's or the one here; what else it is as it is."""
    is_httpx = hasattr(timeout, "read") and hasattr(timeout, "connect")
    return timeout.read if is_httpx else timeout
