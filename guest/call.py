"""One call, as the guest sees it: what has come in and not yet been taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from time import perf_counter
from typing import Any, cast

from mlxbridge.errors import BridgeError, DeadlineExceeded, RemoteProtocolError
from mlxbridge.protocol.events import DataReceived
from mlxbridge.protocol.logprobs import decode_logprobs
from mlxbridge.protocol.parts import Part, decode_part
from mlxbridge.types import Chunk, FinishReason, Generation, TokenLogprobs, ToolCall, Usage

TAKE_BATCH = 64
"""Chunks taken between two words to the connection about it; well under half of the smallest sensible window."""

# As Chunk._make, but without a Python function in between: every token comes by here.
_make_chunk: Callable[
    [tuple[str, list[int], list[TokenLogprobs] | None, str, tuple[ToolCall, ...]]], Chunk
] = partial(tuple.__new__, Chunk)


class Call:
    """State of an open call. Its client fills it from events and empties it for the application.

    ``news`` is called whenever something was added or the call ended; None where the client looks by itself.
    """

    __slots__ = (
        "deadline_at",
        "error",
        "first_at",
        "items",
        "last_at",
        "logprobs",
        "method",
        "news",
        "number",
        "parts",
        "payloads",
        "result",
        "started_at",
        "taken",
        "texts",
        "timeout_s",
        "token_ids",
        "wants_tokens",
    )

    def __init__(
        self,
        number: int,
        method: str,
        *,
        wants_logprobs: bool = False,
        wants_parts: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        self.number = number
        self.timeout_s = timeout_s
        self.method = method
        self.wants_tokens = (
            method == "generate"
        )  # and neither items nor payloads; other calls the other way round
        # A step's chunk, as two columns: a tuple for each would be one more thing for the garbage collector to watch.
        self.token_ids: deque[list[int]] = deque()
        self.texts: deque[str] = deque()  # filled last, so that a thread that sees a text finds its ids
        # One for each token, so that rows without tokens need none; None if nobody asked.
        self.logprobs: deque[bytes] | None = deque() if wants_logprobs else None
        # One for each chunk, None where it has none; None if nobody asked.
        self.parts: deque[list[Part] | None] | None = deque() if wants_parts else None
        self.items: deque[Any] = deque()
        self.payloads: deque[DataReceived] = deque()
        self.result: Mapping[str, Any] | None = None
        self.error: BridgeError | None = None
        self.news: Callable[[], None] | None = None
        self.started_at = perf_counter()
        # When the host ends it; ``timeout_s`` may be of more than this call.
        self.deadline_at = None if timeout_s is None else self.started_at + timeout_s
        self.first_at = 0.0
        self.last_at = 0.0
        self.taken = 0  # chunks and items taken since the connection was last told

    @property
    def ended(self) -> bool:
        """Whether the host has closed the call."""
        return self.result is not None or self.error is not None

    @property
    def readable(self) -> bool:
        """Whether the application has something to take, the end included."""
        return bool(
            self.texts or self.items or self.payloads or self.result is not None or self.error is not None
        )

    @property
    def has_begun(self) -> bool:
        """Whether anything of its answer has come."""
        return bool(self.first_at or self.items or self.payloads or self.taken)

    @property
    def time_left_ms(self) -> int | None:
        """For a host that hears of it only now; None for no limit."""
        if self.deadline_at is None:
            return None
        return max(0, round((self.deadline_at - perf_counter()) * 1000))

    def late(self) -> DeadlineExceeded:
        """The error for a call that has a timeout, and has not ended within it."""
        advice = "give a larger timeout=, or ask for fewer max_tokens" if self.wants_tokens else None
        return DeadlineExceeded(f"{self.method}: no end within {self.timeout_s or 0:g} s", advice=advice)

    def fail(self, error: BridgeError) -> None:
        """End the call from this side."""
        if not self.ended:
            self.error = error
            if self.news is not None:
                self.news()


class Diverged(Exception):
    """An answer that was asked for once more is another one."""


def _without_ids(calls: list[ToolCall]) -> list[tuple[str, str]]:
    """Tool calls without what hosts may draw anew."""
    return [(call.name, call.text) for call in calls]


class Collector:
    """Takes a stream's chunks, and puts them together into a ``Generation``."""

    __slots__ = ("_call", "_logprobs", "_reasoning", "_texts", "_token_ids", "_tool_calls")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] | None = None if call.logprobs is None else []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []

    def take(self) -> Chunk:
        """The next chunk of a call that has one.

        Its parts are kept, not itself, for the garbage collector's sake again.

        Raises:
            RemoteProtocolError: the host sent no logprobs, or what are none, though it took a call that asks for them.
        """
        call = self._call
        text, token_ids = call.texts.popleft(), call.token_ids.popleft()
        self._texts.append(text)
        self._token_ids += token_ids
        call.taken += 1
        logprobs = None if call.logprobs is None else self._take_logprobs(token_ids)
        if call.parts is None or (parts := call.parts.popleft()) is None:
            return _make_chunk((text, token_ids, logprobs, "", ()))
        return _make_chunk((text, token_ids, logprobs, *self._take_parts(parts)))

    def _take_logprobs(self, token_ids: list[int]) -> list[TokenLogprobs]:
        waiting = self._call.logprobs
        assert waiting is not None and self._logprobs is not None
        if len(waiting) < len(token_ids):
            raise RemoteProtocolError("TOKENS: the logprobs that the call asked for are missing")
        logprobs = [decode_logprobs(waiting.popleft()) for _ in token_ids]
        self._logprobs += logprobs
        return logprobs

    def _take_parts(self, parts: list[Part]) -> tuple[str, tuple[ToolCall, ...]]:
        reasoning, tool_calls = read_parts(parts)
        self._reasoning.append(reasoning)
        self._tool_calls += tool_calls
        return reasoning, tool_calls

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def has_any(self) -> bool:
        """Whether anything was taken."""
        return bool(self._token_ids or any(self._texts) or any(self._reasoning) or self._tool_calls)

    def behind(self, before: Collector) -> Chunk | None:
        """What this answer has beyond the beginning that another had; None while it has no more than that.

        Raises:
            Diverged: it begins otherwise.
        """
        text, reasoning = "".join(self._texts), "".join(self._reasoning)
        pairs: list[tuple[Sequence[Any], Sequence[Any]]] = [
            (self._token_ids, before._token_ids),
            (text, "".join(before._texts)),
            (reasoning, "".join(before._reasoning)),
            (_without_ids(self._tool_calls), _without_ids(before._tool_calls)),
        ]
        for own, other in pairs:
            common = min(len(own), len(other))
            if own[:common] != other[:common]:
                raise Diverged
        if any(len(own) < len(other) for own, other in pairs):
            return None
        num_ids = len(before._token_ids)
        return Chunk(
            text[len(pairs[1][1]) :],
            self._token_ids[num_ids:],
            None if self._logprobs is None else self._logprobs[num_ids:],
            reasoning[len(pairs[2][1]) :],
            tuple(self._tool_calls[len(before._tool_calls) :]),
        )

    def finish(self, result: Mapping[str, Any]) -> Generation:
        """The whole answer, with the host's RESULT (SPEC.md §10)."""
        call = self._call
        usage = read_usage(result)
        # Where nobody has read for a while, chunks are seen here later than they came.
        seconds = usage.decode_seconds or call.last_at - call.first_at
        count = usage.completion_tokens if usage.decode_seconds else len(self._token_ids)
        return Generation(
            text=self.text,
            token_ids=self._token_ids,
            model=str(result.get("model", "")),
            finish_reason=usage.finish_reason,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            tokens_per_second=(count - 1) / seconds if count > 1 and seconds > 0 else 0.0,
            time_to_first_token=call.first_at - call.started_at if call.first_at else 0.0,
            usage=usage,
            logprobs=self._logprobs,
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._tool_calls),
        )


def read_parts(parts: list[Part]) -> tuple[str, tuple[ToolCall, ...]]:
    """The reasoning and the tool calls in parts, as ``check_parts`` lets through."""
    decoded = [decode_part(part) for part in parts]
    reasoning = "".join(part for part in decoded if isinstance(part, str))
    return reasoning, tuple(part for part in decoded if isinstance(part, ToolCall))


def read_usage(result: Mapping[str, Any]) -> Usage:
    """The ``Usage`` in a generate call's RESULT; what has a wrong type counts as missing."""
    stop_string, stop_token_id = result.get("stop_string"), result.get("stop_token_id")
    reasoning_tokens = result.get("reasoning_tokens")
    return Usage(
        finish_reason=cast(FinishReason, result.get("finish_reason", "stop")),
        prompt_tokens=int(read_number(result, "prompt_tokens")),
        completion_tokens=int(read_number(result, "completion_tokens")),
        cached_tokens=int(read_number(result, "cached_tokens")),
        reasoning_tokens=reasoning_tokens if type(reasoning_tokens) is int else None,
        stop_string=stop_string if isinstance(stop_string, str) else None,
        stop_token_id=stop_token_id if isinstance(stop_token_id, int) else None,
        queue_seconds=read_number(result, "queue_ms") / 1000,
        prefill_seconds=read_number(result, "prefill_ms") / 1000,
        decode_seconds=read_number(result, "decode_ms") / 1000,
        draft_tokens=int(read_number(result, "draft_tokens")),
        accepted_tokens=int(read_number(result, "accepted_tokens")),
        request_id=read_request_id(result),
    )


def read_request_id(result: Mapping[str, Any]) -> str:
    """What the host calls the request; nothing if it does not say."""
    request_id = result.get("request_id")
    return request_id if isinstance(request_id, str) else ""


def read_number(result: Mapping[str, Any], name: str) -> float:
    """A number in a RESULT; 0 if there is none."""
    number: Any = result.get(name)
    return number if type(number) in (int, float) and isfinite(number) else 0
