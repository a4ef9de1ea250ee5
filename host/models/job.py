"""One guest call on its way through a model, and whom to tell about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mlxbridge.errors import BridgeError
from mlxbridge.host.engine.interface import NOBODY, Origin
from mlxbridge.protocol.limits import MAX_TOTAL
from mlxbridge.protocol.parts import Part

GUEST_LEAD_S = 0.05
"""A guest watches its timeout too, and its clock began a little earlier: a cancel so shortly before is that."""


class Sink(Protocol):
    """Where answers go: a guest's session. Calls are numbered as the guest numbered them."""

    def send_item(self, call: int, value: Any) -> None:
        """One item of the call's stream."""

    def send_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> None:
        """Tokens of one step for this guest's calls (``HostConnection.send_tokens``)."""

    def begin_data(
        self, call: int, meta: Mapping[str, Any], num_bytes: int, on_sent: Callable[[int], object]
    ) -> None:
        """A payload of the call, whose bytes come by ``continue_data``; ``on_sent`` is told how many have left, each time."""

    def continue_data(self, call: int, data: memoryview) -> None:
        """More of the call's payload, which must not be changed any more."""

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        """The call ended well."""

    def fail(self, call: int, error: BridgeError) -> None:
        """The call ended badly."""

    def flush(self) -> None:
        """Write what the above has left."""


_HELD = frozenset({"generate", "generate_many"})


class Job:
    """A call that a guest made of a model.

    Attributes:
        items: the guest's credit for items, in all so far; None for a call that is answered with tokens.
        worker_call: its number at the worker, None while it waits for one.
        is_held: nothing is to be spent on it, since its guest is away.
    """

    __slots__ = ("call", "ended", "is_held", "items", "method", "origin", "params", "sink", "worker_call")

    def __init__(
        self,
        sink: Sink,
        call: int,
        method: str,
        params: Mapping[str, Any],
        origin: Origin = NOBODY,
        *,
        items: int | None = None,
    ) -> None:
        self.sink = sink
        self.call = call
        self.method = method
        self.params = params
        self.origin = origin
        self.items = items
        self.worker_call: int | None = None
        self.is_held = False
        self.ended = False

    @property
    def items_left(self) -> int | None:
        """The credit for items that a worker may use, in all; None for a call that is answered with tokens."""
        return self.items

    @property
    def can_be_curtailed(self) -> bool:
        """Whether it may end early at a worker, and go on at the next one."""
        return False

    @property
    def can_be_held(self) -> bool:
        """Whether a worker can stop computing it, and go on later."""
        return self.method in _HELD

    @property
    def is_unfinished(self) -> bool:
        """Whether a worker's result was not the last one."""
        return False

    def hand_over(self) -> Mapping[str, Any]:
        """What a worker needs of it; nobody asks again."""
        params, self.params = self.params, {}  # maybe megabytes, and the worker has them now
        return params

    def for_worker(self) -> dict[str, Any]:
        """The params of its call at a worker."""
        # What the guest wrote stays apart: nothing in it can say whose call this is.
        origin = self.origin
        adapter = {} if origin.adapter is None else {"adapter": origin.adapter}
        return {
            "request": self.hand_over(),
            "request_id": origin.request_id,
            "guest": origin.guest,
            "cache_scope": origin.cache_scope,
            **adapter,
        }

    @property
    def time_left_ms(self) -> int | None:
        """Until its deadline; None if it has none."""
        if self.origin.deadline_at is None:
            return None
        left_ms = round((self.origin.deadline_at - time.monotonic()) * 1000)
        return min(max(0, left_ms), MAX_TOTAL)

    @property
    def is_late(self) -> bool:
        """Whether it has reached its deadline, if it is cancelled now."""
        deadline_at = self.origin.deadline_at
        return deadline_at is not None and time.monotonic() >= deadline_at - GUEST_LEAD_S

    def take_item(self, item: Mapping[str, Any]) -> None:
        """Pass an item on."""
        self.sink.send_item(self.call, item)

    def take_piece(
        self, meta: Mapping[str, Any] | None, data: memoryview, on_sent: Callable[[int], object]
    ) -> None:
        """Pass a piece of a payload on; the first has a ``meta``, and of all their bytes ``on_sent`` is told."""
        if meta is not None:
            self.sink.begin_data(self.call, meta, meta["nbytes"], on_sent)
        if data:
            self.sink.continue_data(self.call, data)
        self.sink.flush()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell the guest, once."""
        if not self.ended:
            self.ended = True
            if (adapter := self.origin.adapter) is not None and "model" in result:
                result = {**result, "model": f"{result['model']}+{adapter}"}
            self.sink.finish(self.call, result)
            self.sink.flush()

    def fail(self, error: BridgeError) -> None:
        """Tell the guest, once."""
        if not self.ended:
            self.ended = True
            self.sink.fail(self.call, error)
            self.sink.flush()
