"""The sockets guests connect to, and the sessions that come of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence

from mlxbridge.addresses import Activation, Address, Listen
from mlxbridge.errors import AuthenticationError, Unavailable
from mlxbridge.host.access import check_tokens
from mlxbridge.host.server.away import Away
from mlxbridge.host.server.guest_calls import Methods
from mlxbridge.host.server.session import Session
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.transport.driver import Driver
from mlxbridge.transport.listen import BACKLOG, bound_address, close_listener, open_listeners
from mlxbridge.transport.peers import peer_of

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
CLOSE_TIMEOUT_S = 2.0


class Listener:
    """Owns the listening sockets and every session.

    Args:
        tokens: secret by guest name; None lets everyone in.
        telemetry: is told of guests and their calls.
        resume_grace_s: how long calls wait for a guest whose link broke; 0: not at all.

    Attributes:
        away: such guests.
    """

    def __init__(
        self,
        tokens: Mapping[str, bytes] | None,
        telemetry: Telemetry | None = None,
        *,
        resume_grace_s: float = 0.0,
    ) -> None:
        self.away = Away(resume_grace_s)
        self._tokens = tokens
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._sessions: set[Session] = set()
        self._sockets: list[socket.socket] = []
        self._listens: list[Listen] = []  # what each of them is
        self._servers: list[asyncio.Server] = []  # uvloop closes a server that nobody refers to
        self._idle = asyncio.Event()
        self._idle.set()

    def count(self) -> tuple[int, int]:
        """Connections, and calls open on them, those among them that wait for their guest."""
        return len(self._sessions) - len(self.away), sum(session.num_calls for session in self._sessions)

    async def listen(self, listens: Sequence[Listen | Activation], methods: Methods) -> list[Address]:
        """Open every socket, then serve them; where they really are.

        Raises:
            TransportError, UsageError: one of them cannot be opened, or needs tokens; none is served then.
        """
        opened = open_listeners(listens)
        self._sockets = [sock for sock, _ in opened]
        self._listens = [listen for _, listen in opened]
        try:
            self.check_tokens(self._tokens)  # what was handed down shows only now that it is TCP
        except BaseException:
            self._close_sockets()
            raise
        loop = asyncio.get_running_loop()
        for sock, listen in opened:
            server = await loop.create_server(self._factory(listen, methods), sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        return [bound_address(sock, listen) for sock, listen in opened]

    def check_tokens(self, tokens: Mapping[str, bytes] | None) -> None:
        """Look whether these would do for all that is open.

        Raises:
            UsageError: as ``access.check_tokens``.
        """
        for listen in self._listens:
            check_tokens(listen, tokens)

    def change_tokens(self, tokens: Mapping[str, bytes] | None) -> int:
        """Let in by these tokens from now on, that ``check_tokens`` has let pass.

        Whose own is not among them has to leave. How many those are.
        """
        before, self._tokens = self._tokens, tokens
        if tokens is None:
            return 0
        leaving = [
            session
            for session in self._sessions
            if session.guest.identity is None
            or before is None
            or before.get(session.guest.identity) != tokens.get(session.guest.identity)
        ]
        for session in leaving:
            session.close(AuthenticationError("the host's tokens have changed"))
        return len(leaving)

    def stop_listening(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._close_sockets()

    async def drain(self, reason: str, timeout_s: float) -> bool:
        """Take no more calls and wait for those that run; whether they ended in time."""
        for session in list(self._sessions):
            session.go_away(reason, timeout_s)
        return await self._wait_idle(timeout_s)

    async def close(self, reason: str) -> None:
        """End every session now."""
        for session in list(self._sessions):
            session.close(Unavailable(reason))
        if not await self._wait_idle(CLOSE_TIMEOUT_S):
            for session in list(self._sessions):
                session.driver.abort()
            await self._wait_idle(CLOSE_TIMEOUT_S)

    async def _wait_idle(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _factory(self, listen: Listen, methods: Methods) -> Callable[[], Driver]:
        def describe(transport: asyncio.Transport) -> str:
            return str(peer_of(transport.get_extra_info("socket"), listen))

        def make() -> Driver:
            session = Session(
                methods,
                self._tokens,
                self._telemetry,
                self._on_lost,
                describe,
                self.away,
            )
            self._sessions.add(session)
            self.away.add(session)
            self._idle.clear()
            if len(self._sessions) - len(self.away) > MAX_CONNECTIONS:
                session.close(Unavailable(f"{MAX_CONNECTIONS} connections are open"))
            return session.driver

        return make

    def _on_lost(self, session: Session) -> None:
        self._sessions.discard(session)
        self.away.remove(session)
        if not self._sessions:
            self._idle.set()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            close_listener(sock)
        self._sockets.clear()
