"""One ``generate_many`` call: its requests, what has come of them, and the items that tell of it (SPEC.md §10)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import BridgeError, LimitExceeded, to_wire
from mlxbridge.host.engine.interface import GenerateRequest, Origin, Row
from mlxbridge.host.params import estimate_bytes, parse_many, parse_one_of_many
from mlxbridge.host.worker.results import pack_token_ids, usage_to_wire
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS, MAX_HELD_LOGPROB_BYTES
from mlxbridge.protocol.logprobs import encode_logprobs
from mlxbridge.protocol.parts import Part, encode_part, melt
from mlxbridge.types import Priority, Usage

_TOTALS = ("prompt_tokens", "completion_tokens", "cached_tokens")

Item = dict[str, Any]


class Answer:
    """What has come of one request.

    Attributes:
        index: of the request.
        has_begun: whether a token has come, or the end.
    """

    __slots__ = ("_logprobs", "_num_logprob_bytes", "_parts", "_texts", "_token_ids", "has_begun", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.has_begun = False
        self._token_ids: list[int] = []
        self._texts: list[str] = []
        self._logprobs: list[bytes] | None = None
        self._num_logprob_bytes = 0
        self._parts: list[Part] | None = None

    def add(self, row: Row) -> None:
        """Take what a step has added.

        Raises:
            LimitExceeded: there are more logprobs than one item may have.
        """
        self.has_begun = True
        self._token_ids += row.token_ids
        self._texts.append(row.text)
        if row.logprobs is not None:
            self._add_logprobs([encode_logprobs(logprobs) for logprobs in row.logprobs])
        if row.parts is not None:
            self._parts = self._parts or []
            self._parts += map(encode_part, row.parts)

    def _add_logprobs(self, logprobs: list[bytes]) -> None:
        self._logprobs = self._logprobs or []
        self._logprobs += logprobs
        self._num_logprob_bytes += sum(map(len, logprobs))
        if self._num_logprob_bytes > MAX_HELD_LOGPROB_BYTES or len(self._logprobs) > MAX_ARRAY_ITEMS:
            raise LimitExceeded(
                f"logprobs: those of {len(self._logprobs)} tokens take {self._num_logprob_bytes} bytes; an item has at "
                f"most {MAX_ARRAY_ITEMS} and {MAX_HELD_LOGPROB_BYTES} bytes of them"
            )

    def item(self, end: Usage | BridgeError) -> Item:
        """The item that tells how the request ended."""
        if isinstance(end, BridgeError):
            return {"index": self.index, "error": to_wire(end)}
        item: Item = {
            "index": self.index,
            "text": "".join(self._texts),
            "token_ids": pack_token_ids(self._token_ids),
            **usage_to_wire(end),
        }
        if self._logprobs is not None:
            item["logprobs"] = self._logprobs
        if self._parts is not None:
            item["parts"] = melt(self._parts)
        return item


class Bundle:
    """Requests that came in one call, in order.

    Attributes:
        call: its number.
        origin: for whom they are.
        priority: of all of them.
        num_bytes: about what they take.
        answers: what is with the engine, by the engine's number.
        is_held: nothing is to be spent on it.
    """

    def __init__(self, call: int, params: Mapping[str, Any], origin: Origin) -> None:
        """Begin with all requests waiting.

        Raises:
            InvalidArgument: what the requests have in common is wrong.
        """
        self._common, requests = parse_many(params)
        self._waiting = deque(requests)
        self._num_begun = 0
        self._totals: Counter[str] = Counter({"completed": 0, "failed": 0, **dict.fromkeys(_TOTALS, 0)})
        self.call = call
        self.origin = origin
        self.priority: Priority = self._common["priority"]
        self.num_bytes = estimate_bytes(params)
        self.answers: dict[int, Answer] = {}
        self.is_held = False

    @property
    def num_waiting(self) -> int:
        """Requests that have not been begun."""
        return len(self._waiting)

    @property
    def num_begun(self) -> int:
        """Requests that have been; each is, or will be, an item."""
        return self._num_begun

    @property
    def is_done(self) -> bool:
        """Whether all requests have ended."""
        return not self._waiting and not self.answers

    @property
    def next_bytes(self) -> int:
        """About what the first request that waits takes."""
        return estimate_bytes(self._waiting[0])

    def parse_next(self) -> GenerateRequest:
        """The first request that waits.

        Raises:
            InvalidArgument: it is wrong.
        """
        return parse_one_of_many(self._common, self._waiting[0], self._num_begun)

    def begin_next(self) -> Answer:
        """The first request waits no longer; what will come of it."""
        self._waiting.popleft()
        self._num_begun += 1
        return Answer(self._num_begun - 1)

    def curtail(self) -> None:
        """Forget the requests that wait."""
        self._waiting.clear()

    def count(self, item: Item) -> None:
        """An item has been sent."""
        self._totals["failed" if "error" in item else "completed"] += 1
        self._totals.update({name: item[name] for name in _TOTALS if name in item})

    def result(self) -> dict[str, int]:
        """How many were completed and how many failed, and what they took."""
        return dict(self._totals)
