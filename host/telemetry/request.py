"""One call of a guest's, from its beginning to its end, as it is told of."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlxbridge.errors import BridgeError

_prefix = secrets.token_hex(3)
_numbers = itertools.count(1)


def make_request_id() -> str:
    """A name for a call that no other one has, of this run of the host or another one's."""
    return f"{_prefix}-{next(_numbers)}"


@dataclass(slots=True, kw_only=True)
class Request:
    """A call that runs.

    Attributes:
        request_id: its name, which the guest is told too.
        method: as the guest wrote it.
        guest: who made it: the name of its token, or without tokens its connection.
        owner: the name of the guest's token, None if it has shown none.
        began_at: seconds on a clock that only runs forwards.
        model: that it runs on, once that is known; never an alias, nor a name that no model has.
        prompt: how what is asked begins, if that is to be logged.
    """

    request_id: str
    method: str
    guest: str
    owner: str | None
    began_at: float
    model: str | None = None
    prompt: str | None = None


class EndedRequest:
    """A call that has ended, well or badly; times are seconds.

    Attributes:
        request: the call.
        error: what it ended with; None: well.
        finish_reason: ``"stop"`` and so on; None for methods that have none, and with an error.
        seconds: how long it took, as the front saw it, with what it waited for its model to load.
        prompt_tokens, completion_tokens, cached_tokens: None where the method, or the end, tells of none.
        queue_seconds, prefill_seconds, decode_seconds: as the model's process measured them, likewise.
    """

    __slots__ = (
        "cached_tokens",
        "completion_tokens",
        "decode_seconds",
        "error",
        "finish_reason",
        "prefill_seconds",
        "prompt_tokens",
        "queue_seconds",
        "request",
        "seconds",
    )

    def __init__(
        self, request: Request, now: float, result: Mapping[str, Any], error: BridgeError | None = None
    ) -> None:
        self.request = request
        self.error = error
        self.seconds = now - request.began_at
        self.finish_reason: str | None = result.get("finish_reason")
        self.prompt_tokens: int | None = result.get("prompt_tokens")
        self.completion_tokens: int | None = result.get("completion_tokens")
        self.cached_tokens: int | None = result.get("cached_tokens")
        self.queue_seconds = _seconds(result, "queue_ms")
        self.prefill_seconds = _seconds(result, "prefill_ms")
        self.decode_seconds = _seconds(result, "decode_ms")

    @property
    def outcome(self) -> str:
        """``finish_reason``, the error's name, or ``"ok"``."""
        if self.error is not None:
            return type(self.error).__name__
        return self.finish_reason or "ok"

    @property
    def time_to_first_token(self) -> float | None:
        """From the call's beginning in the front: all of its time but for what came behind the first token."""
        if not self.completion_tokens or self.decode_seconds is None:
            return None
        return max(0.0, self.seconds - self.decode_seconds)

    @property
    def tokens_per_second(self) -> float | None:
        """Of this call alone, behind its first token."""
        if self.completion_tokens is None or self.completion_tokens < 2 or not self.decode_seconds:
            return None
        return (self.completion_tokens - 1) / self.decode_seconds

    def describe(self) -> dict[str, Any]:
        """Its map in a ``request`` event (SPEC.md §10), and in the log; without what is not known."""
        ttft = self.time_to_first_token
        known = {
            "request_id": self.request.request_id,
            "method": self.request.method[:100],
            "guest": self.request.guest,
            "model": self.request.model,
            "finish_reason": self.finish_reason,
            "code": None if self.error is None else self.error.code,
            "error": None if self.error is None else type(self.error).__name__,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "queue_ms": _ms(self.queue_seconds),
            "prefill_ms": _ms(self.prefill_seconds),
            "decode_ms": _ms(self.decode_seconds),
            "ttft_ms": _ms(ttft),
            "total_ms": _ms(self.seconds),
        }
        return {name: value for name, value in known.items() if value is not None}


def _seconds(result: Mapping[str, Any], name: str) -> float | None:
    ms = result.get(name)
    return None if ms is None else ms / 1000


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
