"""The daemon: puts the parts together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from mlxbridge.addresses import Address
from mlxbridge.errors import UsageError
from mlxbridge.host.config.config import Config
from mlxbridge.host.gateway import IDENTITY, Gateway, Launch
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.library import Library
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.notify import Notifier
from mlxbridge.host.reload import keep_fixed, reload
from mlxbridge.host.server.listener import Listener
from mlxbridge.host.server.methods import GuestMethods
from mlxbridge.host.telemetry.request_log import log_request
from mlxbridge.host.telemetry.scrape import Scrape
from mlxbridge.host.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_REASON = "the host is shutting down"


class Daemon:
    """One run, from ``run`` to its end.

    The first SIGTERM or SIGINT drains: no new guests, no new calls, running calls go on until the drain timeout. The
    second one stops at once. SIGHUP has the configuration read again, see ``reload``.

    Args:
        config: what to serve, and where.
        memory: what models share; None: as configured.
        read_again: gives the configuration that SIGHUP asks for; it raises UsageError if that is wrong.
    """

    def __init__(
        self,
        config: Config,
        memory: Memory | None = None,
        read_again: Callable[[], Config] | None = None,
    ) -> None:
        self._gateway = Gateway()
        self._gateway_secret = secrets.token_hex(32).encode()
        self._addresses: Sequence[Address] = ()  # at which guests may connect
        self._config = config = self._with_gateway(config)
        self._read_again = read_again
        self._telemetry = Telemetry()
        self._telemetry.keeps_prompts = config.log_prompts
        self._telemetry.events.observers = config.observers
        self._telemetry.listen(log_request)
        self._configured = config.model_names  # at any time since the start
        memory = Memory(config.memory_bytes) if memory is None else memory
        self._catalogue = Catalogue(config.models, memory, self._on_state, config.default_model)
        self._notifier = Notifier()
        self._library = Library(self._catalogue, config.make_settings, self._on_store)
        self._listener = Listener(config.tokens, self._telemetry, resume_grace_s=config.resume_grace_s)
        self._signals = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            TransportError, UsageError: a socket cannot be opened.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        listener = self._listener
        methods = GuestMethods(self._catalogue, listener, self._library, self._telemetry)
        await self._library.recall()
        self._addresses = addresses = await listener.listen(self._config.listens, methods)
        scrape = None
        try:
            if self._config.metrics is not None:
                scrape = self._make_scrape(methods)
                log.info("metrics are at %s", await scrape.listen(self._config.metrics))
            for address in addresses:
                log.info("listening on %s", address)
            self._gateway.change(Launch.of(self._config, addresses))
            self._catalogue.preload()
            self._notifier.ready(f"listening on {', '.join(map(str, addresses))}")
            await self._stop.wait()
            self._notifier.stopping("waiting for the calls that run")
            listener.stop_listening()
            self._gateway.stop()
            await self._drain(listener)
        finally:
            if scrape is not None:
                scrape.close()
            listener.stop_listening()
            self._gateway.stop()
            if self._signals != 1:
                self._gateway.cut()
            await self._gateway.close()
            await listener.close(_REASON)
            await self._library.close()
            await self._catalogue.close()
        log.info("stopped")

    def reload(self) -> None:
        """Read the configuration again; one that is wrong changes nothing."""
        if self._read_again is None or self._stop.is_set():
            return
        self._notifier.reloading()
        try:
            config = self._with_gateway(self._read_again())
            launch = Launch.of(config, self._addresses)
            self._listener.check_tokens(config.tokens)  # sockets stay open that it may not know of
        except UsageError as error:
            log.error("the configuration stays as it was: %s", error.message)
        except Exception:  # it may be as odd as it likes: who waits for the end of this must hear of it
            log.exception("the configuration stays as it was")
        else:
            config = keep_fixed(self._config, config)
            before, self._config = self._config, config
            self._telemetry.keeps_prompts = config.log_prompts
            self._telemetry.events.observers = config.observers
            self._configured |= config.model_names
            changes = reload(
                before, config, catalogue=self._catalogue, library=self._library, listener=self._listener
            )
            self._gateway.change(launch)
            self._telemetry.events.publish("reloaded", asdict(changes))
            log.info("the configuration has been read again")
        self._notifier.ready()

    def stop(self) -> None:
        """Drain; a second time, stop now."""
        self._stop.set()
        self._signals += 1
        if self._signals > 1:
            self._stop_now.set()

    def _with_gateway(self, config: Config) -> Config:
        """The same, with a token for the gateway where guests have tokens."""
        if config.tokens is None or not config.gateway.enabled or IDENTITY in config.tokens:
            return config
        return replace(config, tokens={**config.tokens, IDENTITY: self._gateway_secret})

    def _make_scrape(self, methods: GuestMethods) -> Scrape:
        from mlxbridge.host.telemetry.metrics import Metrics  # takes its time, and most hosts do without

        # Guests name those that they have pulled, and may go on for ever.
        metrics = Metrics(lambda name: name in self._configured)
        self._telemetry.listen(metrics.note)

        async def render() -> bytes:
            return await metrics.render(await methods.describe_host())

        return Scrape(render)

    def _on_state(self, model: Model) -> None:
        self._telemetry.events.publish("model", model.describe_state())

    def _on_store(self, what: str, model: str) -> None:
        self._telemetry.events.publish(what, {"model": model})

    async def _drain(self, listener: Listener) -> None:
        self._telemetry.events.close()  # or subscriptions would be waited for
        _, calls = listener.count()
        timeout_s = self._config.drain_timeout_s
        if calls:
            log.info("draining: %d calls have %.0f s left; a second signal stops them now", calls, timeout_s)
        drain = asyncio.ensure_future(listener.drain(_REASON, timeout_s))
        now = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait((drain, now), return_when=asyncio.FIRST_COMPLETED)
        if drain.done() and not drain.result():
            log.warning("the drain timeout has passed; cancelling what still runs")
        for task in (drain, now):
            task.cancel()
        await asyncio.gather(drain, now, return_exceptions=True)
