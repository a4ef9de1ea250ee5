"""A real mlxbridge-host process, over a transport of choice."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import Client
from mlxbridge.errors import TransportError

START_TIMEOUT_S = 60.0
_vsock_ports = itertools.count(2048)
# Tests that leave the host as it was can be run with one that somebody else has started, such as in another kernel.
ELSEWHERE = os.environ.get("MLXBRIDGE_TEST_URL")
TRANSPORTS = (
    ["elsewhere"] if ELSEWHERE else os.environ.get("MLXBRIDGE_TEST_TRANSPORTS", "unix,tcp").split(",")
)
# For tests that use the shared host, but of what no transport has a part in.
on_one_transport = pytest.mark.parametrize("host", TRANSPORTS[:1], indirect=True)


@dataclass(frozen=True, kw_only=True)
class Host:
    """One that answers, wherever it runs."""

    url: str
    token: str | None = None

    def client(self, **options: Any) -> Client:
        return Client(self.url, token=self.token, **options)


@dataclass(frozen=True, kw_only=True)
class HostProcess(Host):
    process: subprocess.Popen[str]
    log: Path

    def worker_pid(self, client: Client) -> int:
        pid = client.status().models[0].details["pid"]
        assert isinstance(pid, int)
        return pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def run_host(
    transport: str, *options: str, models: tuple[str, ...] = ("demo",), token: str | None = None
) -> Iterator[HostProcess]:
    """Start a host and wait until it answers; kill it at the end if it still runs.

    ``token`` is of a file that the options name.
    """
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        own_token = f"tester:{secrets.token_hex(16)}" if transport == "tcp" else None
        listen, url = _address(transport, folder)
        command = [sys.executable, "-m", "mlxbridge.host", "serve", "--config", os.devnull]
        command += ["--listen", listen, *options]
        for model in models:
            command += ["--model", model]
        if own_token is not None:
            token_file = Path(folder, "tokens")
            token_file.write_text(f"# the tests' own\n{own_token}\n")
            token_file.chmod(0o600)
            command += ["--token-file", str(token_file)]
        log = Path(folder, "log")
        with log.open("w") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, text=True)
        host = HostProcess(process=process, url=url, token=token or own_token, log=log)
        try:
            wait_until_it_answers(host, lambda: process.poll() is None)
            yield host
        finally:
            process.kill()
            process.wait()


def _address(transport: str, folder: str) -> tuple[str, str]:
    if transport == "unix":
        return f"unix:{folder}/m.sock", f"unix://{folder}/m.sock"
    if transport == "vsock":
        port = next(_vsock_ports)
        return f"vsock:{port}", f"vsock://2:{port}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"tcp:127.0.0.1:{port}", f"tcp://127.0.0.1:{port}"


def wait_until_it_answers(host: Host, is_alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with host.client() as client:
        while True:
            try:
                client.ping()
                return
            except TransportError:
                if not is_alive() or time.monotonic() > deadline:
                    log = host.log.read_text() if isinstance(host, HostProcess) else host.url
                    raise AssertionError(f"the host did not start:\n{log}") from None
            time.sleep(0.05)
