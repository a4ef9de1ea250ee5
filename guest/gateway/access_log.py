"""A line of the log for each request: who asked which model, and what it took; never what was said, unless that is wanted."""

from __future__ import annotations

import logging
from typing import Any

from mlxbridge.guest.gateway.record import Record
from mlxbridge.logs import fields

log = logging.getLogger(__name__)

_MOST_CHARS = 300
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_PAGE = "/page/"


def log_record(record: Record) -> None:
    """Log a request that has ended: faults of the gateway or host as warnings, probes and the page's files at debug."""
    level = logging.INFO
    if record.path in _PROBES or record.path.startswith(_PAGE):
        level = logging.DEBUG
    elif record.status >= 500:
        level = logging.WARNING
    if log.isEnabledFor(level):
        log.log(level, "%s", _describe(record), extra=fields(**_fields(record)))


def _short(text: str) -> str:
    """What a caller has named, as long as names are."""
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"


def _describe(record: Record) -> str:
    """The line for people."""
    words = [f"{record.method} {_short(record.path)} {record.status}"]
    if record.error:
        words.append(record.error)
    if record.is_cut:
        words.append("cut")
    if record.caller:
        words.append(f"by {record.caller}")
    if record.model:
        words.append(f"of {_short(record.model)}")
    if record.prompt_tokens or record.completion_tokens:
        words.append(f"{record.prompt_tokens} + {record.completion_tokens} tokens")
    if record.ttft_s is not None:
        words.append(f"first after {record.ttft_s * 1000:.0f} ms")
    if (rate := record.tokens_per_second) is not None:
        words.append(f"{rate:.1f} tokens/s")
    words.append(f"{record.seconds * 1000:.0f} ms, {record.request_id}")
    for prompt in record.prompts:
        words.append(f"\nasked: {prompt}")
    for answer in record.answers:
        words.append(f"\nanswered: {answer}")
    return ", ".join(words)


def _fields(record: Record) -> dict[str, Any]:
    """The same for programs; what is not known is None."""
    return {
        "request_id": record.request_id,
        "host_ids": record.host_ids or None,
        "method": record.method,
        "path": _short(record.path),
        "status": record.status,
        "error": record.error or None,
        "cut": record.is_cut or None,
        "caller": record.caller or None,
        "model": _short(record.model) or None,
        "prompt_tokens": record.prompt_tokens or None,
        "completion_tokens": record.completion_tokens or None,
        "ttft_ms": None if record.ttft_s is None else round(record.ttft_s * 1000, 1),
        "tokens_per_second": None if (rate := record.tokens_per_second) is None else round(rate, 1),
        "total_ms": round(record.seconds * 1000, 1),
        "prompts": record.prompts or None,
        "answers": record.answers or None,
    }
