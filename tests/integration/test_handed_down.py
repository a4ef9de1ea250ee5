"""A host whose sockets belong to a service manager, here this test: guests lose nothing when the host restarts."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxbridge import Client
from mlxbridge.errors import AuthenticationError
from mlxbridge.guest import blocking_link
from tests.helpers.handed_down import start_with_sockets, tcp_listener, unix_listener

PATIENCE_S = 60.0
SERVE = [sys.executable, "-m", "mlxbridge.host", "serve", "--model", "demo", "--listen", "systemd"]


@contextlib.contextmanager
def serving(sock: socket.socket, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A host that has ``sock``; it may still be starting."""
    process = start_with_sockets([sock], [*SERVE, *options], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may take longer to start on a busy machine than guests wait for a HELLO."""
    monkeypatch.setattr(blocking_link, "HANDSHAKE_TIMEOUT_S", PATIENCE_S)


def names(client: Client) -> list[str]:
    """What a host answers before it has loaded anything."""
    return [model.name for model in client.list_models()]


def wait_for_guest(sock: socket.socket) -> None:
    """Wait until somebody waits in the backlog."""
    assert select.select([sock], [], [], 30)[0] == [sock]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_guest_that_connects_while_the_host_is_away_is_answered_by_the_next(number: int) -> None:
    with (
        unix_listener() as (sock, path),
        Client(f"unix://{path}", timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as first,
    ):
        with serving(sock) as process:
            assert names(first) == ["demo"]
            process.send_signal(number)
            process.wait(30)
        assert path.is_socket()
        answers: list[list[str]] = []
        with Client(f"unix://{path}", timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as second:
            asking = threading.Thread(target=lambda: answers.append(names(second)))
            asking.start()
            wait_for_guest(sock)
            with serving(sock):
                asking.join(60)
                assert names(first) == ["demo"]
        assert answers == [["demo"]]


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="NOT RUN: no systemd-socket-activate on this machine",
)
def test_systemd_itself_hands_down_a_named_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        path = f"{folder}/m.sock"
        activate = [
            "systemd-socket-activate",
            f"--listen={path}",
            "--fdname=bridge",
            f"--setenv=PATH={os.environ['PATH']}",
        ]
        if "PYTHONPATH" in os.environ:
            activate.append(f"--setenv=PYTHONPATH={os.environ['PYTHONPATH']}")
        process = subprocess.Popen(
            [*activate, *SERVE[:-1], "systemd:bridge"], stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            assert "Listening on" in process.stderr.readline()
            with Client(f"unix://{path}", timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as client:
                assert names(client) == ["demo"]
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_as_many_guests_may_wait_as_before_the_first_host() -> None:
    with unix_listener() as (sock, path), contextlib.ExitStack() as guests:
        with (
            serving(sock) as process,
            Client(f"unix://{path}", timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as client,
        ):
            client.ping()
            process.terminate()
            process.wait(30)
        for _ in range(300):
            guest = guests.enter_context(socket.socket(socket.AF_UNIX))
            guest.setblocking(False)
            guest.connect(os.fspath(path))  # BlockingIOError where the backlog is full


def test_tcp_that_is_handed_down_needs_tokens_too(tmp_path: Path) -> None:
    with tcp_listener() as sock:
        process = start_with_sockets([sock], SERVE, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
        port = sock.getsockname()[1]
        assert process.returncode == 1
        assert f"Error: tcp:127.0.0.1:{port}: TCP needs a token" in said
        tokens = tmp_path / "tokens"
        tokens.write_text("tester:a-good-secret\n")
        tokens.chmod(0o600)
        guest = Client(
            f"tcp://127.0.0.1:{port}",
            token="tester:a-good-secret",
            timeout=PATIENCE_S,
            connect_timeout=PATIENCE_S,
        )
        with serving(sock, "--token-file", str(tokens)), guest:
            guest.ping()


def test_tcp_that_is_handed_down_keeps_needing_tokens(tmp_path: Path) -> None:
    config, tokens, log = tmp_path / "config.toml", tmp_path / "tokens", tmp_path / "log"
    tokens.touch(0o600)
    tokens.write_text("tester:a-good-secret\n")
    config.write_text(f'token_file = "{tokens}"\n')
    with tcp_listener() as sock, log.open("w") as stderr:
        url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        process = start_with_sockets([sock], [*SERVE, "--config", str(config)], stderr=stderr.fileno())
        try:
            with Client(url, token="tester:a-good-secret", connect_timeout=PATIENCE_S) as guest:
                guest.ping()
                config.write_text("")
                process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + PATIENCE_S
                while "the configuration stays as it was: tcp:127.0.0.1:" not in log.read_text():
                    assert time.monotonic() < deadline
                    guest.ping()
            with Client(url) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
        finally:
            process.kill()
            process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_worker_inherits_neither_sockets_nor_what_tells_of_them() -> None:
    with (
        unix_listener() as (sock, path),
        serving(sock),
        Client(f"unix://{path}", timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as client,
    ):
        client.load_model("demo")
        worker = Path("/proc", str(client.status().models[0].details["pid"]))
        assert b"LISTEN_" not in worker.joinpath("environ").read_bytes()
        inode = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
        assert inode not in {os.readlink(fd) for fd in worker.joinpath("fd").iterdir()}
