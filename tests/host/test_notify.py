from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from mlxbridge.host.notify import Notifier


def receive(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_service_manager_hears_what_happens(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has sockets with a name and no file")
    with (
        tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        path = f"{folder}/notify" if kind == "file" else f"@{Path(folder).name}"
        sock.bind(path.replace("@", "\0"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        notifier.ready("listening on unix:///run/x.sock")
        assert receive(sock) == ["READY=1", "STATUS=listening on unix:///run/x.sock"]
        notifier.reloading()
        word, clock = receive(sock)
        assert word == "RELOADING=1"
        assert clock.removeprefix("MONOTONIC_USEC=").isdigit()
        notifier.ready()
        assert receive(sock) == ["READY=1"]
        notifier.stopping("waiting for 2 calls")
        assert receive(sock) == ["STOPPING=1", "STATUS=waiting for 2 calls"]


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("listening")


def test_service_manager_that_has_gone_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    Notifier().ready("listening")
