"""Whose link a client uses, and when it makes another one, with and without an event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mlxbridge.errors import DeadlineExceeded, HostNotFound, TransportError, Unavailable, UsageError
from mlxbridge.guest.async_connector import AsyncConnector
from mlxbridge.guest.connector import Connector
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import Event, Ready
from tests.guest.script_host import ScriptHost, script_host
from tests.guest.test_blocking_link import until


def stay(connection: HostConnection, event: Event) -> None:
    """Shake hands, and say nothing more."""


def leave(connection: HostConnection, event: Event) -> None:
    """Shake hands and take no calls."""
    if isinstance(event, Ready):
        connection.go_away("the host is shutting down", 1000)


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    with script_host(path, stay) as running:
        yield running


@pytest.fixture
def connector(host: ScriptHost) -> Iterator[Connector]:
    made = Connector(host.url, None, 10)
    yield made
    made.close()


def test_link_is_made_when_it_is_first_asked_for_and_kept(host: ScriptHost, connector: Connector) -> None:
    assert connector.link is None and connector.address is None and host.connections == []
    link = connector.connected(None)
    assert connector.connected(None) is connector.link is link
    assert connector.address == host.url and len(host.connections) == 1


def test_threads_that_come_at_once_get_one_link(host: ScriptHost, connector: Connector) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(connector.connected(None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [connector.link] * 8 and len(host.connections) == 1


async def test_tasks_that_come_at_once_get_one_link(host: ScriptHost) -> None:
    connector = AsyncConnector(host.url, None, 10)
    found = await asyncio.gather(*(connector.connected(None) for _ in range(8)))
    assert found == [connector.link] * 8 and len(host.connections) == 1
    await connector.close()


def test_link_that_was_cut_is_replaced(host: ScriptHost, connector: Connector) -> None:
    first = connector.connected(None)
    host.cut()
    until(lambda: connector.connected(None) is not first)  # read from a moment ago, it is taken for alive
    assert not first.usable and connector.connected(None).usable


async def test_link_of_a_loop_that_was_cut_is_replaced(host: ScriptHost) -> None:
    connector = AsyncConnector(host.url, None, 10)
    first = await connector.connected(None)
    host.cut()
    async with asyncio.timeout(10):
        while first.usable:
            await asyncio.sleep(0.001)
    second = await connector.connected(None)
    assert second is not first and second.usable
    await connector.close()


def test_link_of_another_loop_is_not_used(host: ScriptHost) -> None:
    connector = AsyncConnector(host.url, None, 10)

    async def connect() -> object:
        link = await connector.connected(None)
        await link.close()
        return link

    assert asyncio.run(connect()) is not asyncio.run(connect())


def test_forked_process_has_a_link_of_its_own_though_another_thread_was_connecting(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        connector = Connector(f"unix://{path}", None, 10)
        held = threading.Thread(target=lambda: pytest.raises(TransportError, connector.connected, None))
        held.start()
        sock, _ = mute.accept()  # it has the lock now, and waits for a HELLO
        child = os.fork()
        if child == 0:
            try:
                connector.connected(time.monotonic() + 0.2)
            except DeadlineExceeded:
                os._exit(1)  # it waited for a lock that nobody opens
            except TransportError:
                os._exit(7)  # it dialled for itself
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        sock.close()
        held.join(10)
    connector.close()


def test_who_waits_for_another_thread_to_connect_waits_no_longer_than_allowed(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        connector = Connector(f"unix://{path}", None, 10)
        held = threading.Thread(target=lambda: pytest.raises(TransportError, connector.connected, None))
        held.start()
        sock, _ = mute.accept()
        with pytest.raises(DeadlineExceeded, match="no connection to the host within the timeout"):
            connector.connected(time.monotonic() + 0.05)
        sock.close()
        held.join(10)


def test_host_that_said_why_it_went_away_is_quoted_when_nobody_is_there(path: str) -> None:
    connector = Connector(f"unix://{path}", None, 10)
    with script_host(path, leave):
        link = connector.connected(None)
        until(lambda: not link.refresh())
    os.unlink(path)
    with pytest.raises(Unavailable, match="shutting down") as told:
        connector.connected(None)
    assert isinstance(told.value.__cause__, TransportError)
    connector.close()


async def test_host_that_said_so_is_quoted_on_a_loop_too(path: str) -> None:
    connector = AsyncConnector(f"unix://{path}", None, 10)
    with script_host(path, leave):
        link = await connector.connected(None)
        async with asyncio.timeout(10):
            while link.usable:
                await asyncio.sleep(0.001)
    os.unlink(path)
    with pytest.raises(Unavailable, match="shutting down") as told:
        await connector.connected(None)
    assert isinstance(told.value.__cause__, TransportError)
    await connector.close()


def test_second_place_is_taken_where_there_is_nobody_at_the_first(host: ScriptHost, path: str) -> None:
    connector = Connector(f"unix://{path}.none,{host.url}", None, 10)
    connector.connected(None)
    assert connector.address == host.url
    connector.close()
    with pytest.raises(HostNotFound, match="none of 2 addresses answered"):
        Connector(f"unix://{path}.none,unix://{path}.no", None, 10).connected(None)


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_closed_connector_makes_no_links(host: ScriptHost, kind: str) -> None:
    async def close_and_connect() -> None:
        connector = AsyncConnector(host.url, None, 10)
        await connector.connected(None)
        await connector.close()
        assert connector.address is None
        await connector.connected(None)

    with pytest.raises(UsageError, match="closed"):
        if kind == "async":
            asyncio.run(close_and_connect())
        connector = Connector(host.url, None, 10)
        connector.connected(None)
        connector.close()
        assert connector.address is None
        connector.connected(None)
