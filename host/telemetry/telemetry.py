"""Where the front's parts tell what happens; whoever wants to know hears of it from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import BridgeError
from mlxbridge.host.telemetry.events import Events
from mlxbridge.host.telemetry.prompt import excerpt
from mlxbridge.host.telemetry.recent import Recent
from mlxbridge.host.telemetry.request import EndedRequest, Request, make_request_id

OnEnd = Callable[[EndedRequest], object]
"""Is told of each call that has ended."""


class Telemetry:
    """Owns what is known of the guests' calls, beyond their answers.

    Args:
        clock: seconds, forwards only.

    Attributes:
        events: for whoever has subscribed.
        keeps_prompts: whether calls are told of with how what they ask begins.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.events = Events()
        self.keeps_prompts = False
        self._recent = Recent()
        self._on_end: list[OnEnd] = []

    def listen(self, on_end: OnEnd) -> None:
        """Tell somebody of each call that ends."""
        self._on_end.append(on_end)

    def begin(self, method: str, params: Mapping[str, Any], *, guest: str, owner: str | None) -> Request:
        """A call has come."""
        return Request(
            request_id=make_request_id(),
            method=method,
            guest=guest,
            owner=owner,
            began_at=self._clock(),
            prompt=excerpt(params) if self.keeps_prompts else None,
        )

    def end(
        self, request: Request, result: Mapping[str, Any] | None = None, error: BridgeError | None = None
    ) -> None:
        """A call has ended, with a result or with an error."""
        now = self._clock()
        ended = EndedRequest(request, now, result or {}, error)
        self._recent.note(ended, now)
        if self.events.is_heard:
            self.events.publish("request", ended.describe(), owner=request.owner)
        for on_end in self._on_end:
            on_end(ended)

    def describe(self, model: str) -> dict[str, Any]:
        """How a model's calls went lately, see ``Recent.describe``."""
        return self._recent.describe(model, self._clock())
