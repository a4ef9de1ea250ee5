"""How a blocking client makes calls: over the link that there is, in time, and again where they may be begun again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlxbridge.errors import BridgeError, Cancelled, ConnectionLost
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.guest.connector import Connector
from mlxbridge.guest.requests import deadline_ms
from mlxbridge.guest.retries import CallDefaults, Retries
from mlxbridge.protocol.events import DataReceived
from mlxbridge.protocol.limits import Windows
from mlxbridge.types import Progress

R = TypeVar("R")


class Caller:
    """Safe for use from many threads.

    Args:
        connector: has the link.
        defaults: for calls that say nothing of their own.
    """

    def __init__(self, connector: Connector, defaults: CallDefaults) -> None:
        self._connector = connector
        self.defaults = defaults

    def connected(self, retries: Retries) -> BlockingLink:
        """A link to the host, which is looked for as long as the call allows.

        Raises:
            BridgeError: as ``Connector.connected``; or what had ended the call that was to begin anew.
        """
        while True:
            try:
                link = self._connector.connected(retries.deadline)
            except BridgeError as error:
                pause_s = retries.search_pause_s(error, was_there=self._connector.link is not None)
                if pause_s is None:
                    retries.not_found(error)
                time.sleep(pause_s)
            else:
                retries.found()
                return link

    def open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        retries: Retries,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[BlockingLink, list[Call]]:
        """Start a call for each of ``params``; the link that they run over, too.

        Raises:
            DeadlineExceeded: there is no time left for it.
            BridgeError: as ``connected`` and ``BlockingLink.open``.
        """
        link = self.connected(retries)
        try:
            return link, link.open(method, params, windows, deadline_ms(retries.begin()), retries.deadline)
        except ConnectionLost:  # the host went away since the last call; this one was not started
            link = self.connected(retries)
            return link, link.open(method, params, windows, deadline_ms(retries.begin()), retries.deadline)

    def ask(
        self, method: str, params: Mapping[str, Any], timeout: float | None, progress: Progress | None = None
    ) -> Mapping[str, Any]:
        """A call's result, as ``fetch``, where it has no payloads."""
        return self.fetch(method, params, timeout, progress=progress)[0]

    def fetch(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
        progress: Progress | None = None,
        retry: int | None = None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        """A call's result, and its payloads, which together are no larger than what the caller can hold.

        Args:
            timeout: seconds for all of it; None for what the client allows.
            progress: is told of each item that comes before the end.
            retry: how often it is begun again; None for as often as the client says.

        Raises:
            BridgeError: what ended it in the end.
        """
        retries = self.defaults.retries(method, self.defaults.timeout(timeout), retry)
        return self.repeat(retries, lambda: self._fetch_once(method, params, retries, windows, progress))

    def repeat(self, retries: Retries, work: Callable[[], R]) -> R:
        """What ``work`` gives, as often as it may be begun."""
        while True:
            try:
                return work()
            except BridgeError as error:
                if not self.pause(retries, error):
                    raise

    def pause(self, retries: Retries, error: BridgeError) -> bool:
        """Wait until a call that has ended so is to be begun again; whether it is."""
        pause_s = retries.pause_s(error)
        if pause_s is not None:
            time.sleep(pause_s)
        return pause_s is not None

    def _fetch_once(
        self,
        method: str,
        params: Mapping[str, Any],
        retries: Retries,
        windows: Windows,
        progress: Progress | None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        payloads: list[DataReceived] = []
        link, (call,) = self.open(method, [params], retries, windows)
        try:
            while not call.ended or call.items or call.payloads:
                link.wait(call, retries.deadline)
                item = link.take_item(call)
                if item is not None and progress is not None:
                    progress(item)
                if call.payloads:
                    payloads.append(call.payloads.popleft())
        except BaseException:
            link.give_up(call, Cancelled(f"{method} was interrupted"))
            raise
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result, payloads
