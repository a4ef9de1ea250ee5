"""A gateway as a process: its sockets, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

import uvicorn

from mlxbridge.addresses import Address
from mlxbridge.guest.gateway.app import make_app
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.settings import Settings
from mlxbridge.transport.listen import bound_address, close_listener, open_listeners

log = logging.getLogger(__name__)

_BACKLOG = 4096


class _Server(uvicorn.Server):
    """uvicorn's, which tells the gateway that it is to stop, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT end it: the first one in order, the second at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._gateway.stopping.set()


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those that run then have the drain timeout, and a second signal ends them.

    Raises:
        UsageError: the keys file is wrong.
        TransportError: a socket cannot be opened.
    """
    import uvloop

    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    opened = open_listeners(settings.listens)
    try:
        config = uvicorn.Config(
            make_app(gateway),
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        )
        for sock, listen in opened:
            log.info("listening on %s", _shown(bound_address(sock, listen)))
        await _Server(config, gateway).serve([sock for sock, _ in opened])
    finally:
        for sock, _ in opened:
            close_listener(sock)
    log.info("stopped")


def _shown(address: Address) -> str:
    """An address as people have it in a browser."""
    return str(address).replace("tcp://", "http://")
