"""What a worker asks of an engine; the only types that cross that border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlxbridge.errors import BridgeError
from mlxbridge.types import Usage

DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One checked generation call.

    Exactly one of ``prompt`` (raw text or token ids) and ``messages`` (for the chat template) is set.
    ``max_tokens`` None asks for as many as fit, at most ``DEFAULT_MAX_TOKENS``; a number that does not fit is refused.
    ``temperature`` 0 is greedy; ``top_p`` 1, ``top_k`` 0 and ``min_p`` 0 are off. ``stop`` strings match on text.
    """

    prompt: str | Sequence[int] | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=())


@dataclass(slots=True)
class Row:
    """What one engine step did for one call: new tokens, their whole-UTF-8 text, and the end if it came.

    Exactly one of ``usage`` (finished) and ``error`` (failed) is set on a call's last row, neither before.
    """

    call: int
    token_ids: list[int]
    text: str
    usage: Usage | None = None
    error: BridgeError | None = None


class Engine(Protocol):
    """Runs many calls on one model. Single-threaded: the worker's loop owns it.

    Call numbers are the caller's and unique among open calls.
    """

    def submit(self, call: int, request: GenerateRequest) -> None:
        """Queue a call.

        Raises:
            InvalidArgument, Unsupported, ContextTooLong, Overloaded: the call is refused and not queued.
        """

    def cancel(self, call: int) -> Row | None:
        """Drop a call before the next step; its last row (finish_reason "cancelled"), None if it is not open."""

    def step(self) -> list[Row]:
        """One decode step for all running calls, plus a bounded amount of prefill; rows in no special order."""

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model: architecture, parameters, context_length, vocabulary_size, dtype, kv_bytes_per_token…"""

    def stats(self) -> dict[str, int]:
        """Counters: running, waiting, steps_total, tokens_total."""
