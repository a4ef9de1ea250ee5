"""The HTTP gateway as a child of the daemon: started when the host listens, started again when it dies, ended with the host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from mlxbridge.addresses import CID_ANY, Address, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.guest.gateway.needs import check_needs
from mlxbridge.host.config.config import Config

log = logging.getLogger(__name__)

IDENTITY = "gateway"
"""What it is called among the host's guests, where these have tokens."""

_ENVIRONMENT = "MLXBRIDGE_GATEWAY_"
_FIRST_PAUSE_S = 0.5
_MOST_PAUSE_S = 30.0
_STEADY_S = 60.0  # who has lived for so long does not die for the reason for which it died before
_SPARE_S = 5.0  # beyond the time to drain, which both have at once
_CLOSE_S = 1.0  # for it to leave its sockets to the next one
_VSOCK_SELF = 1  # VMADDR_CID_LOCAL, vsock(7)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How it is started.

    Attributes:
        command: words of it.
        variables: that it has beside the daemon's own; secrets are among them, so none is shown.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, config: Config, addresses: Sequence[Address]) -> Launch | None:
        """As it is configured; None if there is to be none.

        Args:
            config: of the host.
            addresses: at which the host listens, as ``Listener.listen`` gives them.

        Raises:
            UsageError: packages are missing that it needs.
        """
        table = config.gateway
        if not table.enabled:
            return None
        check_needs()
        words = [sys.executable, "-P", "-m", "mlxbridge", "gateway", "--until-eof"]
        for listen in table.listen:
            words += ["--listen", str(listen)]
        for origin in table.cors_origins:
            words += ["--cors-origin", origin]
        if table.keys is not None:
            words += ["--keys", str(table.keys)]
        if table.max_body is not None:
            words += ["--max-body", str(table.max_body)]
        if table.timeout is not None:
            words += ["--timeout", str(table.timeout)]
        words += ["--allow-anyone"] * table.allow_anyone + ["--log-prompts"] * config.log_prompts
        words += ["--drain-timeout", str(config.drain_timeout_s)]
        words += ["--log-level", logging.getLevelName(config.log_level).lower()]
        words += ["--log-format", config.log_format]
        variables = {"MLXBRIDGE_URL": str(_nearest(addresses))}
        if config.tokens is not None:
            variables["MLXBRIDGE_TOKEN"] = f"{IDENTITY}:{config.tokens[IDENTITY].decode()}"
        return cls(command=tuple(words), variables=variables)


class Gateway:
    """Keeps one process running, as long as there is to be one."""

    def __init__(self) -> None:
        self._launch: Launch | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None  # that is to run
        self._ending: dict[asyncio.subprocess.Process, asyncio.Task[int]] = {}

    def change(self, launch: Launch | None) -> None:
        """Run it so from now on; a process that runs so already reads its keys again, another one drains."""
        if launch == self._launch:
            if self._process is not None and self._process.returncode is None:
                assert self._process.stdin is not None
                self._process.stdin.write(b"\n")  # SIGHUP would end one that is still starting
            return
        self._launch = launch
        self.stop()
        if launch is not None:
            self._keeping = asyncio.ensure_future(self._keep(launch))

    def stop(self) -> None:
        """Have it drain, and start no other."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            self._ending[process] = asyncio.ensure_future(process.wait())
            self._ending[process].add_done_callback(lambda _: self._ending.pop(process))
            assert process.stdin is not None
            process.stdin.close()  # no signal: another one may come from whoever has stopped the host, and two cut

    def cut(self) -> None:
        """Have what still drains end at once."""
        for process in self._ending:
            _signal(process, signal.SIGTERM)

    async def close(self) -> None:
        """Wait until it has ended, after ``stop``; kill it if it does not."""
        if self._ending:
            await asyncio.wait(self._ending.values(), timeout=_SPARE_S)
        for process, task in list(self._ending.items()):
            log.warning("the gateway, process %d, does not end; it is killed", process.pid)
            _signal(process, signal.SIGKILL)
            await task

    async def _keep(self, launch: Launch) -> None:
        if self._ending:  # the next one wants the same addresses, which it leaves at once
            await asyncio.wait(self._ending.values(), timeout=_CLOSE_S)
        pause_s = _FIRST_PAUSE_S
        while True:
            start = monotonic()
            why = await self._run(launch)
            if monotonic() - start > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.warning("the gateway %s; it is started again in %.1f s", why, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(_MOST_PAUSE_S, 2 * pause_s)

    async def _run(self, launch: Launch) -> str:
        """Run it to its end; how that came."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_ENVIRONMENT)}
        try:
            # Its standard input ends with this process, however that does, and it with that. It has a session of its own,
            # since Ctrl-C reaches all of this one's, and it is for the host to pass on.
            self._process = await asyncio.create_subprocess_exec(
                *launch.command,
                stdin=asyncio.subprocess.PIPE,
                env={**inherited, **launch.variables},
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started: {error}"
        log.info("the gateway is process %d", self._process.pid)
        status = await self._process.wait()
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _nearest(addresses: Sequence[Address]) -> Address:
    """Where a process of this machine connects: over a unix socket, if there is one."""
    address = min(addresses, key=lambda each: (UnixAddress, TcpAddress, VsockAddress).index(type(each)))
    match address:
        case TcpAddress("0.0.0.0", port):
            return TcpAddress("127.0.0.1", port)
        case TcpAddress("::", port):
            return TcpAddress("::1", port)
        case VsockAddress(cid, port) if cid == CID_ANY:
            return VsockAddress(_VSOCK_SELF, port)
    return address
