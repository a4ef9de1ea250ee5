"""A host that runs an HTTP gateway beside it, as its configuration says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxbridge.errors import TransportError
from tests.integration.hosts import HostProcess, run_host

LONG = {"model": "demo", "prompt": "The ", "max_tokens": 1_000_000, "ignore_eos": True, "stream": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def until(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := done()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def gateway_pid(host: HostProcess, number: int = 1) -> int:
    """The process of the gateway that was started so many times."""

    def find() -> int:
        found = re.findall(r"the gateway is process (\d+)", host.log.read_text())
        return int(found[number - 1]) if len(found) >= number else 0

    pid = until(find)
    assert isinstance(pid, int)
    return pid


def is_up(port: int, model: str = "demo") -> bool:
    """Whether the gateway answers, and its host answers it; of no more than what models there are, for which none is loaded."""
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models/{model}", timeout=60)
        return answer.status_code == 200
    return False


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text()


@contextlib.contextmanager
def streaming(port: int) -> Iterator[Iterator[str]]:
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/completions", json=LONG, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        yield lines


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_gateway_runs_beside_the_host_and_ends_with_it(transport: str) -> None:
    """Over TCP with a token that nobody has given it."""
    port = free_port()
    with run_host(transport, "--gateway-listen", f"127.0.0.1:{port}") as host:
        until(lambda: is_up(port))
        pid = gateway_pid(host)
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists():
            secret = host.token.partition(":")[2] if host.token else "MLXBRIDGE_TOKEN"
            assert secret not in line.read_text()
        assert host.stop() == 0
        assert has_ended(pid)
        assert "killed" not in host.log.read_text()


def test_gateway_that_dies_is_started_again_and_ends_with_a_host_that_is_killed() -> None:
    port = free_port()
    with run_host("unix", "--gateway-listen", f"127.0.0.1:{port}") as host:
        until(lambda: is_up(port))
        os.kill(gateway_pid(host), signal.SIGKILL)
        second = gateway_pid(host, 2)
        assert second != gateway_pid(host)
        until(lambda: is_up(port))
        assert "the gateway was killed by signal 9; it is started again in 0.5 s" in host.log.read_text()
        host.process.kill()
        until(lambda: has_ended(second))


def test_gateway_that_cannot_listen_is_tried_again_and_says_why() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with run_host("unix", "--gateway-listen", f"127.0.0.1:{port}") as host:
            until(lambda: "started again in 1.0 s" in host.log.read_text())
            assert f"127.0.0.1:{port}" in host.log.read_text()
            taken.close()
            until(lambda: is_up(port))


def test_stream_goes_on_while_the_host_drains_and_is_told_its_end() -> None:
    port = free_port()
    options = ("--gateway-listen", f"127.0.0.1:{port}", "--drain-timeout", "2", "--kv-window", "256")
    with run_host("unix", *options) as host:
        until(lambda: is_up(port))
        with streaming(port) as lines:
            host.process.send_signal(signal.SIGTERM)
            until(lambda: not is_up(port))
            rest = list(lines)
        assert len(rest) > 10
        assert "error" in "".join(rest[-6:])
        assert host.process.wait(30) == 0


def test_second_signal_cuts_what_the_gateway_streams() -> None:
    port = free_port()
    options = ("--gateway-listen", f"127.0.0.1:{port}", "--drain-timeout", "600", "--kv-window", "256")
    with run_host("unix", *options) as host:
        until(lambda: is_up(port))
        with streaming(port) as lines:
            os.kill(gateway_pid(host), signal.SIGTERM)  # as of a service manager that stops all processes
            host.process.send_signal(signal.SIGTERM)
            until(lambda: "draining" in host.log.read_text())
            for _ in range(4):
                next(lines)
            host.process.send_signal(signal.SIGTERM)
            assert "error" in "".join(list(lines)[-6:])
        assert host.process.wait(30) == 0


def test_gateway_changes_with_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    first, second = free_port(), free_port()
    models = "[models.demo]\n"
    file.write_text(f"[gateway]\nlisten = ['127.0.0.1:{first}']\n{models}")

    def reload(text: str) -> None:
        file.write_text(text)
        host.process.send_signal(signal.SIGHUP)

    with run_host("unix", "--config", str(file), "--kv-window", "256", models=()) as host:
        until(lambda: is_up(first))
        with streaming(first) as lines:
            reload(f"log_level = 'debug'\n[gateway]\nlisten = ['127.0.0.1:{second}']\n{models}")
            until(lambda: is_up(second))
            assert not is_up(first)
            for _ in range(6):
                next(lines)  # what had begun goes on
        until(lambda: has_ended(gateway_pid(host)))
        reload(f"gateway = false\n{models}")
        until(lambda: has_ended(gateway_pid(host, 2)))
        reload(f"[gateway]\nlisten = ['127.0.0.1:{first}']\n{models}")
        until(lambda: is_up(first))
        pid = gateway_pid(host, 3)
        reload(f"[gateway]\nlisten = ['127.0.0.1:{first}']\n{models}[models.other]\nsource = 'demo'\n")
        until(lambda: is_up(first, "other"))
        assert not has_ended(pid)  # the same, which was told to read its keys again
        assert host.stop() == 0


def test_host_says_what_the_gateway_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'starlette' else find(name, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with (
        pytest.raises(
            (AssertionError, TransportError), match=r"the gateway needs starlette: run pip install"
        ),
        run_host("unix", "--gateway"),
    ):
        pass
