"""The link of a blocking client: made at the first call, and anew whenever it is of no use any more."""

from __future__ import annotations

import os
import threading
from time import monotonic

from mlxbridge.errors import TransportError
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.link import LinkOwner, check_time, late
from mlxbridge.guest.search import try_places


class Connector(LinkOwner[BlockingLink]):
    """For any number of threads, of which one connects while the others wait; a forked process has a link of its own."""

    def __init__(self, url: str | None, token: str | None, timeout_s: float) -> None:
        super().__init__(url, token, timeout_s)
        self._connecting = threading.Lock()
        self._pid = os.getpid()

    def connected(self, deadline: float | None) -> BlockingLink:
        """A link that takes calls.

        Args:
            deadline: of ``time.monotonic``.

        Raises:
            UsageError: the client is closed.
            DeadlineExceeded: another thread was looking for the host until then.
            TransportError: no host was found, in time.
            Unavailable: the host that was there has gone away, and said why.
            AuthenticationError, VersionMismatch: a host answered, and it and this guest do not go together.
        """
        self._check_open()
        if self._pid != os.getpid():
            self._begin_after_fork()
        link = self._link
        if link is not None and link.refresh():
            return link
        if not self._connecting.acquire(timeout=-1 if deadline is None else max(0.0, deadline - monotonic())):
            raise late()
        try:
            link = self._link
            if link is None or not link.usable:
                with self._explaining():
                    self._link = link = self._search_host(deadline)
            return link
        finally:
            self._connecting.release()

    def close(self) -> None:
        """Close the link, if it is this process's, and make no more."""
        link = self._end()
        if link is not None and link.pid == os.getpid():
            link.close()

    def _begin_after_fork(self) -> None:
        """A child shares its parent's socket, and perhaps a lock that nobody here will open: it starts afresh."""
        link, self._link = self._link, None
        self._connecting = threading.Lock()
        self._pid = os.getpid()
        if link is not None:
            link.abandon()

    def _search_host(self, deadline: float | None) -> BlockingLink:
        check_time(deadline)
        failures = []
        for trial in try_places(self._search, self._token, timeout=self._timeout_s, deadline=deadline):
            if trial.link is not None:
                return trial.link
            if isinstance(trial.failure, TransportError):
                failures.append((trial.place, trial.failure))
        raise self._search.nothing_answered(failures)
