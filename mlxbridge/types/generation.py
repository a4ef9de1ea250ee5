"""Answers in text: what comes of a stream, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.types.chat import Message

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


class TokenLogprob(NamedTuple):
    """A token that might have been chosen, and the natural logarithm of its probability.

    ``data`` is its UTF-8 bytes, maybe a part of a character; empty for tokens without text.
    """

    token_id: int
    logprob: float
    data: bytes


class TokenLogprobs(NamedTuple):
    """The token that was chosen, and the likeliest ones, best first, as many as were asked for.

    Probabilities are the model's own after ``logit_bias``, penalties and ``min_tokens``, before temperature and filters.
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, whole.

    Attributes:
        index: its number in the answer, from 0.
        id: what the tool's answer names as ``tool_call_id``; empty if ``malformed``.
        name: the tool's; the model may have made it up. Empty if ``malformed``.
        arguments: a JSON object, decoded; None if ``malformed``.
        text: the arguments as JSON text; of a malformed call all that the model wrote, markers included.
        malformed: the model began a call, but what it wrote is none, or was cut off.
    """

    index: int
    id: str
    name: str
    arguments: Mapping[str, Any] | None
    text: str
    malformed: bool = False


class Chunk(NamedTuple):
    """What one engine step, or several merged ones, added to a stream; prints as its text.

    ``text`` is whole UTF-8 and may be empty while a character or a possible stop string is held back;
    ``token_ids`` are the tokens that were generated meanwhile, and ``logprobs`` has one entry for each of them where
    the call asked for it, else it is None. Where the call asked for ``tools`` or ``reasoning``, what is neither is text.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How a call ended and what it cost; times are seconds as the host's engine measured them.

    ``cached_tokens`` of the prompt were not read anew; ``reasoning_tokens`` of the completion were reasoning, None if that
    was not told apart. Of ``stop_string`` and ``stop_token_id`` at most one is set: what ended the answer, if it was
    not EOS. ``draft_tokens`` were drafted by speculation, and ``accepted_tokens`` of them are in the answer.
    ``request_id`` is what the host calls the request, in its log for one; outcomes of ``generate_many`` have that of the call
    that they came in, some hundred of them the same.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int | None = None
    stop_string: str | None = None
    stop_token_id: int | None = None
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A finished answer; prints as its text.

    ``time_to_first_token`` is seconds from the call to its first token as the *caller* saw it, with the way there and back, and
    later where it was read later. ``tokens_per_second`` is the tokens after the first over the time after the first, as the host
    measured it; ``usage`` has all of its times. ``logprobs`` has one entry for each of ``token_ids`` where the call asked for it, else it is None.
    ``reasoning`` and ``tool_calls`` are not in ``text`` where the call asked for ``tools`` or ``reasoning``.
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
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def parsed(self) -> Any:
        """The object that the answer is, see ``TypedGeneration``.

        Raises:
            UsageError: it was not asked for with ``response_format``.
        """
        raise UsageError(
            "parsed: there is nothing to parse; ask with response_format, a type or a JSON schema"
        )

    @property
    def message(self) -> Message:
        """The answer as a turn of the chat, for what is asked next; without reasoning, and without malformed calls."""
        message: Message = {"role": "assistant", "content": self.text}
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for call in self.tool_calls
            if not call.malformed
        ]
        return {**message, "tool_calls": calls} if calls else message


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """What ``run_tools`` came to; prints as the last answer's text.

    Attributes:
        generation: the last answer; its ``finish_reason`` is "tool_calls" if the model still wanted more after ``max_rounds``.
        messages: the whole chat: what was given, each answer with calls and what the tools returned, and the last answer.
        num_rounds: answers with calls that were run.
    """

    generation: Generation
    messages: list[Message]
    num_rounds: int

    def __str__(self) -> str:
        return self.generation.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one prompt of ``generate_many`` ended; prints as its text, or as its error: ``InvalidArgument: top_p must be …``.

    ``index`` is the prompt's place in the input, from 0. Either ``usage`` is set, as in ``Generation``, or ``error`` says
    why there is no answer. ``logprobs``, ``reasoning`` and ``tool_calls`` are as in ``Generation``.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    usage: Usage | None = None
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    error: BridgeError | None = None

    @property
    def parsed(self) -> Any:
        """As ``Generation.parsed``."""
        raise UsageError(
            "parsed: there is nothing to parse; ask with response_format, a type or a JSON schema"
        )

    def __str__(self) -> str:
        return self.text if self.error is None else f"{type(self.error).__name__}: {self.error.message}"
