"""Clients that go away: the host stops computing for them within a step, whatever they had asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from mlxbridge import Client
from tests.guest.gateway.endless import ENDLESS, running, streaming, until
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess


@pytest.fixture(scope="module")
def gateway(endless_host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(endless_host.url) as gateway:
        yield gateway


@pytest.fixture
def watcher(endless_host: HostProcess) -> Iterator[Client]:
    with endless_host.client(timeout=60) as client:
        yield client


def send(gateway: GatewayProcess, **more: object) -> socket.socket:
    """A request, sent and not waited for."""
    body = orjson.dumps({**ENDLESS, **more})
    where = urlsplit(gateway.url)
    sock = socket.create_connection((where.hostname, where.port))
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock


@pytest.mark.parametrize("more", [{}, {"n": 3}, {"prompt": ["The ", "A "]}, {"stream": True}])
def test_call_ends_with_its_client(gateway: GatewayProcess, watcher: Client, more: dict[str, object]) -> None:
    with closing(send(gateway, **more)):
        until(lambda: running(watcher))
    until(lambda: not running(watcher))


def test_several_answers_end_with_their_client(http: httpx.Client, watcher: Client) -> None:
    with streaming(http, n=3) as lines:
        seen: set[int] = set()
        while len(seen) < 3:
            line = next(lines)
            if line.startswith("data: "):
                seen.add(orjson.loads(line.removeprefix("data: "))["choices"][0]["index"])
        assert running(watcher) == 3
    until(lambda: not running(watcher))


def test_client_that_went_is_in_the_log(gateway: GatewayProcess, http: httpx.Client, watcher: Client) -> None:
    with streaming(http, {"x-request-id": "left-1"}):
        pass
    line = gateway.wait_for_line("left-1")
    assert " 200, cut, " in line
    sock = send(gateway)
    until(lambda: running(watcher))
    sock.close()
    assert "POST /v1/completions 499, cut" in gateway.wait_for_line(" 499, cut")
