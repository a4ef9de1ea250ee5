"""The values that users see: chunks, results, models, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

FinishReason = Literal["stop", "length", "cancelled"]


class Message(TypedDict):
    """One turn of a chat: ``{"role": "user", "content": "…"}``."""

    role: str
    content: str


Prompt = str | Sequence[int]
"""Raw text, as in mlx_lm (no chat template), or token ids."""


class Chunk(NamedTuple):
    """What one engine step, or several merged ones, added to a stream; prints as its text.

    ``text`` is whole UTF-8 and may be empty while a character or a possible stop string is held back;
    ``token_ids`` are the tokens that were generated meanwhile.
    """

    text: str
    token_ids: list[int]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How a call ended and what it cost; times are seconds as the host's engine measured them."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    stop_string: str | None = None
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A finished answer; prints as its text.

    ``time_to_first_token`` is seconds from the call to its first token, and ``tokens_per_second`` the tokens after the
    first over the time after the first: both as the *caller* saw them, with the way there and back. ``usage`` has the
    host's own times.
    """

    text: str
    token_ids: list[int]
    model: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float
    time_to_first_token: float
    usage: Usage

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model the host serves, and what it is doing now.

    ``state`` is "unloaded", "loading", "ready", "restarting", "unloading" or "failed"; ``details`` has architecture,
    parameters, context_length and the like once it was loaded, and the reason when it failed.
    """

    name: str
    state: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The host at a glance."""

    software: str
    uptime_seconds: float
    connections: int
    calls: int
    models: list[ModelInfo]
