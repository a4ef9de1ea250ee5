"""The prompts of one ``generate_many``, as a run of calls of bounded size; does no I/O.

A client opens a call for each part that ``next_part`` gives, and takes the outcomes as they come. A part's answers all
have credit from the start: what bounds them is that few prompts are unanswered at a time, and that an answer counts as
one until the application has taken it. So whoever reads slowly is sent no more, and the input is read as it is needed.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from mlxbridge.errors import BridgeError, LimitExceeded, RemoteProtocolError, UsageError
from mlxbridge.guest.call import Call, read_usage
from mlxbridge.guest.requests import common_params, request_params, wrong
from mlxbridge.protocol.codec import EncodeError, encode_plain, make_encoder
from mlxbridge.protocol.connection import read_error
from mlxbridge.protocol.limits import MIB, Windows
from mlxbridge.protocol.logprobs import decode_logprobs
from mlxbridge.types import ManyPrompt, Options, Outcome

MAX_PART_PROMPTS = 256
MAX_PART_BYTES = 1 * MIB
MAX_UNANSWERED_BYTES = 16 * MIB
"""Another part is sent while less is unanswered, and fewer than ``MAX_PART_PROMPTS``; a host's batch is never idle for want of prompts."""

_HEAD_BYTES = 512
"""What a CALL's head has beside its params, at most."""


class Part:
    """Prompts that go in one call, numbered from ``first`` on without gaps."""

    __slots__ = ("call", "first", "num_left", "params", "windows")

    def __init__(self, first: int, params: Mapping[str, Any], num_prompts: int) -> None:
        self.first = first
        self.params = params
        self.windows = Windows(items=num_prompts, bytes=0)
        self.num_left = num_prompts
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
        # The next request, where it was read but did not fit, and its bytes.
        self._held: tuple[dict[str, Any], int] | None = None
        self._is_exhausted = False
        self._refused: deque[Outcome] = deque()
        self._parts: list[Part] = []
        # Bytes of those that are unanswered, by index.
        self._unanswered: dict[int, int] = {}
        self._num_bytes = 0

    @property
    def calls(self) -> list[Call]:
        """Those that were begun and have not ended, or have outcomes to take."""
        return [part.call for part in self._parts if part.call is not None]

    @property
    def is_done(self) -> bool:
        """Whether every prompt's outcome has been taken."""
        return self._is_exhausted and not self._parts and not self._refused

    def next_part(self, max_head_bytes: int) -> Part | None:
        """What to send next; None if enough is unanswered, or nothing is left that can be sent.

        Args:
            max_head_bytes: what the host takes.
        """
        if len(self._unanswered) >= MAX_PART_PROMPTS or self._num_bytes >= MAX_UNANSWERED_BYTES:
            return None
        room = max_head_bytes - self._common_bytes - _HEAD_BYTES
        first, requests = self._next_index, self._read_requests(room)
        if not requests:
            return None
        params = {**self._common, "requests": requests}
        if type(seed := params.get("seed")) is int:
            params["seed"] = (seed + first) % (1 << 64)
        part = Part(first, params, len(requests))
        self._parts.append(part)
        return part

    def begin(self, part: Part, call: Call) -> None:
        """A call was opened for a part."""
        part.call, part.params = call, {}

    def take(self) -> Outcome | None:
        """The next outcome that has come, None if none has.

        Raises:
            RemoteError, ConnectionLost: what ended a call early, once all that came before it is taken.
            RemoteProtocolError: the host sent what is no outcome, or not all of them.
        """
        if self._refused:
            self.num_done += 1
            return self._refused.popleft()
        for part in self._parts:
            if part.call is not None and part.call.items:
                return self._read(part, part.call.items.popleft())
        for part in list(self._parts):
            # In this order: another thread may add an item, then the end.
            if part.call is not None and part.call.ended and not part.call.items:
                self._parts.remove(part)
                self._check_end(part, part.call)
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
        while len(requests) < MAX_PART_PROMPTS and num_bytes < MAX_PART_BYTES:
            try:
                if (read := self._held or self._read_next(room)) is None:
                    break
            except (UsageError, LimitExceeded) as error:
                self._refused.append(Outcome(index=self._next_index, error=error))
                self._next_index += 1
                break
            request, size = read
            if requests and num_bytes + size > min(room, MAX_PART_BYTES):
                self._held = read
                break
            self._held = None
            requests.append(request)
            num_bytes += size
            self._unanswered[self._next_index] = size
            self._num_bytes += size
            self._next_index += 1
        return requests

    def _read_next(self, room: int) -> tuple[dict[str, Any], int] | None:
        """The next request of the input, and its bytes on the wire."""
        try:
            given = next(self._prompts)
        except StopIteration:
            self._is_exhausted = True
            return None
        request = request_params(given)
        size = sum(self._measure(name, value) for name, value in request.items())
        if size > room:
            raise LimitExceeded(f"the prompt takes {size} bytes, and the host accepts {room}")
        return request, size

    def _measure(self, name: str, value: Any) -> int:
        try:
            return len(name) + len(encode_plain(self._encode, value)) + 2
        except EncodeError as error:
            raise wrong(name, f"cannot be sent ({error})") from error

    # -- receiving ---------------------------------------------------------------------------------------------

    def _read(self, part: Part, item: Any) -> Outcome:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int or index < 0 or part.first + index not in self._unanswered:
            raise RemoteProtocolError("ITEM: an outcome must have the index of a request that has none yet")
        outcome = read_outcome(part.first + index, item)
        part.num_left -= 1
        self._num_bytes -= self._unanswered.pop(outcome.index)
        self.num_done += 1
        return outcome

    def _check_end(self, part: Part, call: Call) -> None:
        if call.error is not None:
            raise call.error
        if part.num_left:
            raise RemoteProtocolError(f"RESULT: {part.num_left} requests have no outcome")


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
    ids = array("I", token_ids)
    if sys.byteorder == "big":
        ids.byteswap()
    return Outcome(
        index=index,
        text=text,
        token_ids=ids.tolist(),
        usage=read_usage(item),
        logprobs=None if logprobs is None else [decode_logprobs(data) for data in logprobs],
    )
