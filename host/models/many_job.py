"""A call of many requests, which may go on at another worker when its model makes way for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import BridgeError
from mlxbridge.host.engine.interface import NOBODY, Origin
from mlxbridge.host.models.job import Job, Sink


class ManyJob(Job):
    """Keeps the requests that have not been answered, under the guest's numbers, for the next worker."""

    __slots__ = ("_common", "_indexes", "_num_items", "_num_items_before", "_requests", "_totals")

    def __init__(
        self, sink: Sink, call: int, params: Mapping[str, Any], origin: Origin = NOBODY, *, items: int
    ) -> None:
        super().__init__(sink, call, "generate_many", params, origin, items=items)
        self._common = {name: value for name, value in params.items() if name != "requests"}
        self._requests: dict[int, Any] = dict(enumerate(params["requests"]))
        self._indexes = list(self._requests)  # by those that the worker knows
        self._num_items = 0
        self._num_items_before = 0  # those of earlier workers
        self._totals: Counter[str] = Counter()

    @property
    def items_left(self) -> int | None:
        """The credit that earlier workers have not used."""
        return None if self.items is None else self.items - self._num_items_before

    @property
    def can_be_curtailed(self) -> bool:
        """It may."""
        return True

    @property
    def is_unfinished(self) -> bool:
        """Whether there are requests for another worker."""
        return bool(self._requests) and not self.ended

    def take_item(self, item: Mapping[str, Any]) -> None:
        """Pass an item on, under the guest's number, and with the name of the call that it is of."""
        index = self._indexes[item["index"]]
        del self._requests[index]
        self._num_items += 1
        named = {"request_id": self.origin.request_id} if self.origin.request_id else {}
        if "error" in item:
            super().take_item({"index": index, "error": {**item["error"], **named}})
        else:
            super().take_item({**item, **named, "index": index})

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell the guest what came of all workers, or, if there are requests left, wait for another one."""
        self._totals.update({name: value for name, value in result.items() if type(value) is int})
        if self._requests:
            self._indexes = list(self._requests)
            self._num_items_before = self._num_items
            self.params = {**self._common, "requests": [self._request(index) for index in self._indexes]}
        else:
            super().finish({**result, **self._totals})

    def fail(self, error: BridgeError) -> None:
        """Tell the guest, once; what it had asked for is forgotten."""
        self._requests.clear()
        super().fail(error)

    def _request(self, index: int) -> Any:
        """One request, with the seed that its own number gives it."""
        request, seed = self._requests[index], self._common.get("seed")
        if seed is None or not isinstance(request, Mapping) or request.get("seed") is not None:
            return request
        return {**request, "seed": (seed + index) % 2**64}
