"""The servers, each a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.gateway.reader import Server

START_S = 300.0


@contextmanager
def run_process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A module of Python's, until the end of the block; what it says goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def run_gateway(host_url: str, folder: Path) -> Iterator[tuple[Server, int]]:
    """A gateway in front of a host; where it listens, and its process' number."""
    server = Server(port=free_port())
    command = ["mlxbridge", "gateway", "--listen", f"127.0.0.1:{server.port}", "--url", host_url]
    log = folder / "gateway.log"
    with run_process([*command, "--log-level", "warning"], log) as process:
        wait_for(server, "/healthz", process, log)
        yield server, process.pid


@contextmanager
def run_host(model: Path, folder: Path) -> Iterator[str]:
    """A host that serves a model under the name ``default_model``; its URL."""
    path, config = folder / "host.sock", folder / "config.toml"
    config.write_text(f'[models.default_model]\nsource = "{model}"\n', encoding="utf-8")
    command = ["mlxbridge.host", "serve", "--config", str(config), "--listen", f"unix:{path}"]
    command += ["--prefix-cache", "0", "--log-level", "warning"]
    with run_process(command, folder / "host.log") as process:
        _wait_for_host(f"unix://{path}", process, folder / "host.log")
        yield f"unix://{path}"


@contextmanager
def run_mlx_lm(model: Path, folder: Path) -> Iterator[Server]:
    """``mlx_lm.server``, which calls its model ``default_model`` by itself."""
    server, log = Server(port=free_port()), folder / "mlx_lm.log"
    command = [
        "mlx_lm",
        "server",
        "--model",
        str(model),
        "--port",
        str(server.port),
        "--log-level",
        "WARNING",
    ]
    with run_process(command, log) as process:
        wait_for(server, "/v1/models", process, log)
        yield server


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(server: Server, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server answers."""
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(urllib.error.HTTPError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def _wait_for_host(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    from mlxbridge import Client
    from mlxbridge.errors import TransportError

    end = time.monotonic() + START_S
    with Client(url) as client:
        while process.poll() is None and time.monotonic() < end:
            try:
                client.load_model("default_model", timeout=START_S)
                return
            except TransportError:
                time.sleep(0.1)
    raise RuntimeError(f"the host did not start:\n{log.read_text()}")
