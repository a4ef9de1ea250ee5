"""Looking for a host without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

from mlxbridge.errors import AuthenticationError, BridgeError, TransportError, VersionMismatch
from mlxbridge.guest.blocking_link import BlockingLink, connect
from mlxbridge.guest.discovery import Lookups, Place, Search
from mlxbridge.protocol.handshake import Token


class Trial(NamedTuple):
    """A place that was tried.

    Attributes:
        seconds: that it took.
        link: to the host that answered there, the caller's to close; or
        failure: why there is none. After one that is no ``TransportError`` no other place is tried: it is raised.
    """

    place: Place
    seconds: float
    link: BlockingLink | None
    failure: BridgeError | None


def try_places(
    search: Search, token: Token | None, *, timeout: float, deadline: float | None = None
) -> Iterator[Trial]:
    """Try one place after the other, until a host has answered.

    Args:
        search: where to look.
        token: for the host.
        timeout: seconds for each place that was named.
        deadline: of ``time.monotonic``, for all of them; each has a share of the time.

    Raises:
        AuthenticationError, VersionMismatch: a host answered, and it and this guest do not go together.
    """
    for place in search.places(deadline):
        if isinstance(place, Lookups):
            _wait(place)
            continue
        started = monotonic()
        link: BlockingLink | None = None
        failure: BridgeError | None = place.failure
        if failure is None:
            own = timeout if place.within_s is None else min(place.within_s, timeout)
            try:
                link = connect(place.address, token, own)
            except (TransportError, AuthenticationError, VersionMismatch) as error:
                failure = error
        yield Trial(place, monotonic() - started, link, failure)
        if link is not None:
            return
        if failure is not None and not isinstance(failure, TransportError):
            raise failure


def _wait(lookups: Lookups) -> None:
    from concurrent.futures import wait  # it brings logging along, which named hosts shall not pay for

    wait(lookups.found.values(), lookups.within_s)
