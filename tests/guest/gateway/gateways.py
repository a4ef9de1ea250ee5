"""A gateway over a real socket: a process of its own in front of a host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class GatewayProcess:
    """One that answers; ``url`` has no slash at its end."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def read_log(self) -> str:
        return self.log.read_text()

    def wait_for_line(self, text: str) -> str:
        """A line of the log with a text in it, whole."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in self.read_log().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {text!r} in the log:\n{self.read_log()}")


@contextlib.contextmanager
def run_gateway(
    host_url: str, *options: str, token: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """Start a gateway on a free port, and wait until it answers; kill it at the end if it still runs."""
    with tempfile.TemporaryDirectory(prefix="mg-", dir="/tmp") as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "mlxbridge", "gateway", "--listen", "127.0.0.1:0", "--url", host_url]
        variables = {**os.environ, **({} if token is None else {"MLXBRIDGE_TOKEN": token}), **(env or {})}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, *options], stdin=subprocess.DEVNULL, stderr=stderr, text=True, env=variables
            )
        try:
            url = _wait_for_url(process, log)
            yield GatewayProcess(url=url, process=process, log=log)
        finally:
            process.kill()
            process.wait()


def write_keys(path: Path, **tables: str) -> None:
    """A keys file with these callers, whose keys are their names."""
    told = [
        f'[{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n{table}\n'
        for name, table in tables.items()
    ]
    path.write_text("\n".join(told))
    path.chmod(0o600)


def _wait_for_url(process: subprocess.Popen[str], log: Path) -> str:
    """Where it listens, as it logs that, once it answers there."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r'listening on (http://[^\s"]+).*\n', log.read_text()):
            url = found[1]
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/healthz")
                return url
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not start:\n{log.read_text()}")
