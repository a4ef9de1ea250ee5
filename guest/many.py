"""The prompts of one ``generate_many``, as a run of calls of bounded size; does no I/O.

A client opens a call for each portion that ``next_portion`` gives, and takes the outcomes as they come. A portion's
answers all have credit from the start: what bounds them is that few prompts are unanswered at a time, and that an answer
counts as one until the application has taken it. So whoever reads slowly is sent no more, and the input is read as it
is needed.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from mlxbridge.errors import BridgeError, LimitExceeded, RemoteProtocolError, UsageError
from mlxbridge.guest.call import Call, read_parts, read_usage
from mlxbridge.guest.formats import typed_outcome
from mlxbridge.guest.requests import common_params, request_params, wrong
from mlxbridge.protocol.codec import EncodeError, encode_plain, make_encoder
from mlxbridge.protocol.error_head import read_error
from mlxbridge.protocol.limits import MIB, Windows
from mlxbridge.protocol.logprobs import decode_logprobs
from mlxbridge.protocol.parts import check_parts
from mlxbridge.types import ManyPrompt, Options, Outcome, ToolCall

MAX_PORTION_PROMPTS = 256
MAX_PORTION_BYTES = 1 * MIB
MAX_UNANSWERED_BYTES = 16 * MIB
"""Another portion is sent while less is unanswered, and fewer than ``MAX_PORTION_PROMPTS``: one long answer keeps none of the
later prompts waiting."""

_HEAD_BYTES = 512
"""What a CALL's head has beside its params, at most."""


class Portion:
    """Prompts that go in one call, numbered from ``first`` on without gaps."""

    __slots__ = ("call", "first", "num_left", "num_prompts", "params", "windows")

    def __init__(self, first: int, params: Mapping[str, Any], num_prompts: int) -> None:
        self.first = first
        self.params = params
        self.windows = Windows(items=num_prompts, bytes=0)
        self.num_left = self.num_prompts = num_prompts
        self.call: Call | None = None


class Many:
    """From the first prompt to the last outcome.

    Attributes:
        num_total: prompts there are, None if the input does not say.
        num_done: outcomes that have been taken.
    """

    def __init__(self, prompts: Iterable[ManyPrompt], options: Options) -> None:
        """Begin with nothing read.

        Raises:
            UsageError: an option has a wrong name, or cannot be sent; or the prompts are one text.
        """
        if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
            raise wrong("prompts", f"must be several prompts, not {type(prompts).__name__}")
        self.num_total = len(prompts) if isinstance(prompts, Sized) else None
        self.num_done = 0
        self._common = common_params(options)
        self._encode = make_encoder()
        self._common_bytes = sum(self._measure(name, value) for name, value in self._common.items())
        self._prompts = iter(prompts)
        self._next_index = 0
        self._format = options.get("response_format")
        # By index, of those that are unanswered, what their answers are to keep to.
        self._formats: dict[int, Any] = {}
        # The next request, where it was read but did not fit, its bytes, and what it is to keep to.
        self._held: tuple[dict[str, Any], int, Any] | None = None
        self._is_exhausted = False
        self._refused: deque[Outcome] = deque()
        self._portions: list[Portion] = []
        self._failure: BridgeError | None = None  # of a portion that could not be sent
        # Bytes of those that are unanswered, by index.
        self._unanswered: dict[int, int] = {}
        self._num_bytes = 0

    @property
    def calls(self) -> list[Call]:
        """Those that were begun and have not ended, or have outcomes to take."""
        return [portion.call for portion in self._portions if portion.call is not None]

    @property
    def is_done(self) -> bool:
        """Whether every prompt's outcome has been taken."""
        return self._is_exhausted and not self._portions and not self._refused

    def next_portion(self, max_head_bytes: int) -> Portion | None:
        """What to send next; None if enough is unanswered, or nothing is left that can be sent.

        Args:
            max_head_bytes: what the host takes.

        Raises:
            LimitExceeded: the options for all of them leave no room for any.
        """
        is_enough = len(self._unanswered) >= MAX_PORTION_PROMPTS or self._num_bytes >= MAX_UNANSWERED_BYTES
        if is_enough or self._failure is not None:
            return None
        room = max_head_bytes - self._common_bytes - _HEAD_BYTES
        if room <= 0:
            raise LimitExceeded(
                f"the options for all prompts take {self._common_bytes} bytes, and the host accepts "
                f"{max_head_bytes - _HEAD_BYTES} with a prompt"
            )
        first, requests = self._next_index, self._read_requests(room)
        if not requests:
            return None
        params = {**self._common, "requests": requests}
        if type(seed := params.get("seed")) is int:
            params["seed"] = (seed + first) % (1 << 64)
        portion = Portion(first, params, len(requests))
        self._portions.append(portion)
        return portion

    def begin(self, portion: Portion, call: Call) -> None:
        """A call was opened for a portion."""
        portion.call, portion.params = call, {}

    def stop(self, portion: Portion, error: BridgeError) -> None:
        """No call could be opened for a portion: nothing more is sent, and the error comes behind what was sent before.

        Raises:
            BridgeError: it, at once, since nothing is to come before it.
        """
        self._portions.remove(portion)
        self._failure = error
        if not self._portions and not self._refused:
            raise error

    def take(self) -> Outcome | None:
        """The next outcome that has come, None if none has.

        Raises:
            RemoteError, ConnectionLost: what ended a call early, or kept one from being opened, once all that came before it
                is taken.
            RemoteProtocolError: the host sent what is no outcome, or not all of them.
        """
        if self._refused:
            self.num_done += 1
            return self._refused.popleft()
        for portion in self._portions:
            if portion.call is not None and portion.call.items:
                return self._read(portion, portion.call.items.popleft())
        for portion in list(self._portions):
            # In this order: another thread may add an item, then the end.
            if portion.call is not None and portion.call.ended and not portion.call.items:
                self._portions.remove(portion)
                self._check_end(portion, portion.call)
        if self._failure is not None and not self._portions:
            raise self._failure
        return None

    def explain(self, error: BridgeError) -> None:
        """Say in an error's details which prompts have no outcome."""
        error.details = {
            **error.details,
            "unanswered": sorted(self._unanswered),
            "next_index": self._next_index,
        }

    # -- sending -----------------------------------------------------------------------------------------------

    def _read_requests(self, room: int) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = []
        num_bytes = 0
        while len(requests) < MAX_PORTION_PROMPTS and num_bytes < MAX_PORTION_BYTES:
            try:
                if (read := self._held or self._read_next(room)) is None:
                    break
            except (UsageError, LimitExceeded) as error:
                self._refused.append(Outcome(index=self._next_index, error=error))
                self._next_index += 1
                break
            request, size, form = read
            if requests and num_bytes + size > min(room, MAX_PORTION_BYTES):
                self._held = read
                break
            self._held = None
            requests.append(request)
            num_bytes += size
            self._unanswered[self._next_index] = size
            if form is not None:
                self._formats[self._next_index] = form
            self._num_bytes += size
            self._next_index += 1
        return requests

    def _read_next(self, room: int) -> tuple[dict[str, Any], int, Any] | None:
        """The next request of the input, its bytes on the wire, and its ``response_format``."""
        try:
            given = next(self._prompts)
        except StopIteration:
            self._is_exhausted = True
            return None
        request = request_params(given)
        size = sum(self._measure(name, value) for name, value in request.items())
        if size > room:
            raise LimitExceeded(f"the prompt takes {size} bytes, and the host accepts {room}")
        own = given.get("response_format") if isinstance(given, Mapping) else None
        return request, size, self._format if own is None else own

    def _measure(self, name: str, value: Any) -> int:
        try:
            return len(name) + len(encode_plain(self._encode, value)) + 2
        except EncodeError as error:
            raise wrong(name, f"cannot be sent ({error})") from error

    # -- receiving ---------------------------------------------------------------------------------------------

    def _read(self, portion: Portion, item: Any) -> Outcome:
        number = item.get("index") if isinstance(item, dict) else None
        index = portion.first + number if type(number) is int and 0 <= number < portion.num_prompts else None
        if index not in self._unanswered:
            raise RemoteProtocolError("ITEM: an outcome must have the index of a request that has none yet")
        outcome = typed_outcome(read_outcome(index, item), self._formats.pop(index, None))
        portion.num_left -= 1
        self._num_bytes -= self._unanswered.pop(outcome.index)
        self.num_done += 1
        return outcome

    def _check_end(self, portion: Portion, call: Call) -> None:
        if call.error is not None:
            raise call.error
        if portion.num_left:
            raise RemoteProtocolError(f"RESULT: {portion.num_left} requests have no outcome")


def read_outcome(index: int, item: Mapping[str, Any]) -> Outcome:
    """The outcome in an ITEM of ``generate_many`` (SPEC.md §10).

    Raises:
        RemoteProtocolError: it is none.
    """
    error = item.get("error")
    if isinstance(error, dict):
        return Outcome(index=index, error=read_error(error))
    text, token_ids, logprobs = item.get("text"), item.get("token_ids"), item.get("logprobs")
    if not isinstance(text, str) or not isinstance(token_ids, bytes) or len(token_ids) % 4:
        raise RemoteProtocolError("ITEM: an outcome must have a text and token_ids, or an error")
    if logprobs is not None and not (
        isinstance(logprobs, list)
        and len(logprobs) == len(token_ids) // 4
        and all(isinstance(data, bytes) for data in logprobs)
    ):
        raise RemoteProtocolError("ITEM: logprobs must be one byte string a token")
    reasoning, tool_calls = _read_parts(item.get("parts"))
    ids = array("I", token_ids)
    if sys.byteorder == "big":
        ids.byteswap()
    return Outcome(
        index=index,
        text=text,
        token_ids=ids.tolist(),
        usage=read_usage(item),
        logprobs=None if logprobs is None else [decode_logprobs(data) for data in logprobs],
        reasoning=reasoning,
        tool_calls=tool_calls,
    )


def _read_parts(parts: Any) -> tuple[str, tuple[ToolCall, ...]]:
    if parts is None:
        return "", ()
    try:
        check_parts([parts], 1)
    except RemoteProtocolError as error:
        raise RemoteProtocolError("ITEM: parts must be lists of a kind and its fields") from error
    return read_parts(parts)
