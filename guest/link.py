"""What is the same with and without an event loop: a link to a host, and the one link that a client has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import monotonic
from typing import Generic, TypeVar

from mlxbridge.errors import BridgeError, DeadlineExceeded, TransportError, UsageError
from mlxbridge.guest.calls import Calls
from mlxbridge.guest.discovery import Search, find_token


class Link:
    """A connection and its calls; ``BlockingLink`` and ``AsyncLink`` do the I/O."""

    _calls: Calls

    @property
    def usable(self) -> bool:
        """Whether new calls may go over this link."""
        return self._calls.usable

    @property
    def address(self) -> str:
        """Where it leads."""
        return self._calls.address

    @property
    def max_head_bytes(self) -> int:
        """How large the arguments of a call may be, with what goes beside them."""
        return self._calls.max_head_bytes

    @property
    def goaway(self) -> BridgeError | None:
        """Why the host takes no more calls, if it has said so."""
        return self._calls.goaway


L = TypeVar("L", bound=Link)


def late() -> DeadlineExceeded:
    """The error of who waited too long for somebody else to find the host."""
    return DeadlineExceeded("no connection to the host within the timeout", advice="give a larger timeout=")


def check_time(deadline: float | None) -> None:
    """Refuse to look for a host where there is no time for it.

    Args:
        deadline: of ``time.monotonic``.

    Raises:
        DeadlineExceeded: it has passed.
    """
    if deadline is not None and monotonic() >= deadline:
        raise late()


def ping_late() -> DeadlineExceeded:
    """The error of a ping that was not answered."""
    return DeadlineExceeded("ping: no answer within the timeout", advice="the host is hung, or far away")


class LinkOwner(Generic[L]):
    """Where to look for a host, and the link to the one that was found; ``Connector`` and ``AsyncConnector`` make it.

    Args:
        url: one address or a comma list; else where hosts usually are (``discovery.Search``).
        token: ``NAME:SECRET`` or ``SECRET``, "" for none; else that of the environment (``discovery.find_token``).
        timeout_s: for each address, and the most for each of the usual places; a deadline may leave them less.

    Raises:
        UsageError: an address or the token cannot be read.
    """

    def __init__(self, url: str | None, token: str | None, timeout_s: float) -> None:
        self._search = Search(url)
        self._token = find_token(token)
        self._timeout_s = timeout_s
        self._link: L | None = None
        self._is_closed = False

    @property
    def link(self) -> L | None:
        """The latest link, whether it can still be used or not; None before the first."""
        return self._link

    @property
    def address(self) -> str | None:
        """Where the link leads, None before the first."""
        return None if self._link is None else self._link.address

    def _end(self) -> L | None:
        """Make no more links; the one that there is."""
        self._is_closed = True
        link, self._link = self._link, None
        return link

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("this client is closed; make a new one")

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Where nobody is found, raise what the host said when it went away, if it did."""
        try:
            yield
        except TransportError as error:
            if self._link is not None and self._link.goaway is not None:
                raise self._link.goaway from error
            raise
