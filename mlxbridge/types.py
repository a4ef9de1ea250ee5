"""The values that users see: chunks, results, models, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

FinishReason = Literal["stop", "length", "cancelled"]
Priority = Literal["high", "normal", "low"]


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


class TokenLogprob(NamedTuple):
    """A token that might have been chosen, and the natural logarithm of its probability.

    ``data`` is its UTF-8 bytes, maybe a part of a character; empty for tokens without text.
    """

    token_id: int
    logprob: float
    data: bytes


class TokenLogprobs(NamedTuple):
    """The token that was chosen, and the likeliest ones, best first, as many as were asked for.

    Probabilities are the model's own after ``logit_bias`` and penalties, before temperature and filters.
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How a call ended and what it cost; times are seconds as the host's engine measured them.

    ``cached_tokens`` of the prompt were not read anew. Of ``stop_string`` and ``stop_token_id`` at most one is set: what
    ended the answer, if it was not EOS.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    stop_string: str | None = None
    stop_token_id: int | None = None
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
