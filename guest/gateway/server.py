"""A gateway as a process: its sockets, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from mlxbridge.addresses import Address
from mlxbridge.guest.gateway.app import make_app
from mlxbridge.guest.gateway.connection import KEEP_ALIVE_S, Connection
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.settings import Settings
from mlxbridge.transport.listen import bound_address, close_listener, open_listeners

log = logging.getLogger(__name__)

_BACKLOG = 4096
_STDIN = 0
_MAX_FILES = 10_240  # what macOS lets a process have at most, OPEN_MAX
_LAST_WORDS_S = 1.0
"""For those that were cut to say so; a client that does not read cannot keep the gateway from ending."""


class Server(uvicorn.Server):
    """uvicorn's, which tells the gateway that it is to stop, and lets what is cut tell so.

    Args:
        gateway: whose requests it takes.
        app: that answers them.
    """

    def __init__(self, gateway: Gateway, app: ASGIApp) -> None:
        drain_s = max(1, round(gateway.settings.drain_timeout_s))
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=drain_s,
            )
        )
        self._gateway = gateway

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT end it: the first one in order, the second at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._gateway.settings.ends_with_stdin:
            loop.add_reader(_STDIN, self._read_stdin)
        try:
            yield
        finally:
            loop.remove_reader(_STDIN)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Take no more connections, and end when all requests have; a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._gateway.stopping.set()
        if not self.force_exit and (running := len(self.server_state.tasks)):
            log.info(
                "draining: %d requests have %.0f s left; a second signal ends them now",
                running,
                self._gateway.settings.drain_timeout_s,
            )

    def _read_stdin(self) -> None:
        """Have the keys read again if whoever holds the other end says so; stop if it has gone, unless it has said so before."""
        if os.read(_STDIN, 4096):
            self._gateway.reload()
            return
        asyncio.get_running_loop().remove_reader(_STDIN)
        if not self.should_exit:
            self.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then cut what still runs."""
        await super().shutdown(sockets)
        tasks = list(self.server_state.tasks)
        if self.force_exit:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those that run then have the drain timeout, and a second signal ends them.

    Raises:
        UsageError: the keys file is wrong.
        TransportError: a socket cannot be opened.
    """
    import uvloop

    _allow_many_files()
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    opened = open_listeners(settings.listens)
    try:
        async with gateway.running():
            for sock, listen in opened:
                log.info("listening on %s", _shown(bound_address(sock, listen)))
            await Server(gateway, make_app(gateway)).serve([sock for sock, _ in opened])
    finally:
        for sock, _ in opened:
            close_listener(sock)
    log.info("stopped")


def _allow_many_files() -> None:
    """Each connection is one, and 256 is what macOS gives to a process that does not ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(_MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _shown(address: Address) -> str:
    """An address as people have it in a browser."""
    return str(address).replace("tcp://", "http://")
