"""Links that break, and hosts to which it is hard to come back: both clients go on, or give up in time."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.addresses import TcpAddress, UnixAddress, parse_addresses
from mlxbridge.errors import ConnectionLost, Gone, TransportError
from mlxbridge.guest import comeback
from mlxbridge.guest.comeback import MOST_FRUITLESS, REFUSALS, Comeback
from mlxbridge.host.server.session import Session
from mlxbridge.protocol.events import ResumeAsked
from tests.host.server.test_session import Rig, rig

OnReturn = Callable[[Session, ResumeAsked], None]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def stay_mute(fresh: Session, asked: ResumeAsked) -> None:
    """Say nothing to guests that come back."""


async def read_until_it_fails(made: Rig, kind: str, connect_timeout: float = 5.0) -> BaseException:
    """Cut a stream behind its first token; with what it ends."""
    url = f"unix://{made.path}"

    def read() -> None:
        with Client(url, connect_timeout=connect_timeout) as client:
            for _ in client.stream("Once"):
                pass

    async def read_in_task() -> None:
        async with AsyncClient(url, connect_timeout=connect_timeout) as client:
            async for _ in await client.stream("Once"):
                pass

    reading = asyncio.ensure_future(asyncio.to_thread(read) if kind == "blocking" else read_in_task())
    await until(lambda: len(made.methods.opened) == 1)
    made.calls.send_tokens([1], [[7]], ["one"])
    made.calls.flush()
    await asyncio.sleep(0.05)
    made.session.driver.abort()
    await asyncio.wait([reading], timeout=20)
    assert reading.done(), "it waits for ever"
    error = reading.exception()
    assert error is not None
    return error


@pytest.mark.parametrize("kind", ["blocking", "async"])
async def test_host_that_lets_guests_wait_at_the_door_is_given_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "blocking":
        monkeypatch.setattr("mlxbridge.guest.blocking_driver.HANDSHAKE_TIMEOUT_S", 0.05)
    async with rig(resume_grace_s=0.5) as made:
        made.listener.away.receive = stay_mute  # type: ignore[method-assign]
        assert isinstance(await read_until_it_fails(made, kind, connect_timeout=0.05), ConnectionLost)


@pytest.mark.parametrize("kind", ["blocking", "async"])
async def test_link_that_breaks_over_and_over_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comeback, "MOST_DELAY_S", 0.01)
    async with rig(resume_grace_s=30) as made:
        returns = []
        welcome = made.listener.away.receive

        def welcome_and_cut(fresh: Session, asked: ResumeAsked) -> None:
            returns.append(asked)
            welcome(fresh, asked)
            asyncio.get_running_loop().call_later(0.01, made.session.driver.abort)

        made.listener.away.receive = welcome_and_cut  # type: ignore[method-assign]
        assert isinstance(await read_until_it_fails(made, kind), ConnectionLost)
        assert MOST_FRUITLESS / 2 < len(returns) <= MOST_FRUITLESS + 1


async def test_who_waits_for_a_link_that_nobody_mends_any_more_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comeback, "FIRST_DELAY_S", 1000.0)
    monkeypatch.setattr(comeback, "MOST_DELAY_S", 1000.0)
    monkeypatch.setattr("random.uniform", lambda least, most: most / 100)
    async with rig(resume_grace_s=30) as made, AsyncClient(f"unix://{made.path}") as client:
        first = await client.stream("one")
        await until(lambda: len(made.methods.opened) == 1)
        assert client._connector.link is not None
        made.session.driver.abort()
        connection = client._connector.link._connection
        await until(lambda: connection.cut)
        opening = asyncio.ensure_future(client.stream("two"))
        await asyncio.sleep(0.05)
        assert not opening.done()
        await first.aclose()
        second = await asyncio.wait_for(opening, 5)
        await until(lambda: len(made.methods.opened) == 2)
        await second.aclose()


def test_pauses_grow_until_something_has_come_over_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    trouble = Comeback(UnixAddress("/there"))
    trouble.begin(0, 30, 5)
    assert [trouble.next_delay(0) for _ in range(3)] == [0.05, 0.1, 0.2]
    trouble.begin(1, 30, 5)
    assert trouble.next_delay(1) == 0.4
    trouble.begin(2, 30, 6)
    assert trouble.next_delay(2) == 0.05
    for number in range(MOST_FRUITLESS):
        trouble.begin(3 + number, 30, 6)
        assert trouble.next_delay(3 + number) is not None
    trouble.begin(40, 30, 6)
    assert trouble.next_delay(40) is None
    trouble.begin(41, 30, 7)
    assert trouble.next_delay(71.5) is None and trouble.next_delay(41) is not None


def refused(number: int) -> TransportError:
    """What dialling gives where the kernel says so."""
    error = TransportError("cannot connect")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize(
    ("address", "number", "times"),
    [
        ("unix:///there", errno.ENOENT, 1),
        ("unix:///there", errno.ECONNREFUSED, 1),
        ("tcp://there:2048", errno.ECONNREFUSED, REFUSALS),
        ("vsock://2:2048", errno.ECONNRESET, REFUSALS),
    ],
)
def test_host_where_nobody_listens_any_more_has_ended(address: str, number: int, times: int) -> None:
    (there,) = parse_addresses(address)
    trouble = Comeback(there)
    trouble.begin(0, 30, 5)
    for _ in range(times):
        assert trouble.next_delay(0) is not None and not isinstance(trouble.reason, Gone)
        trouble.failed(refused(number))
    assert trouble.next_delay(0) is None and isinstance(trouble.reason, Gone)


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET])
def test_host_that_may_still_be_there_is_tried_again(number: int) -> None:
    trouble = Comeback(TcpAddress("there", 2048))
    trouble.begin(0, 30, 5)
    for _ in range(3 * REFUSALS):
        trouble.failed(refused(number))
        assert trouble.next_delay(0) is not None
    for between in (ConnectionLost("the peer closed the connection"), None):
        for _ in range(REFUSALS - 1):
            trouble.failed(refused(errno.ECONNREFUSED))
        if between is None:
            trouble.reached()
        else:
            trouble.failed(between)
        trouble.failed(refused(errno.ECONNREFUSED))
        assert trouble.next_delay(0) is not None
        trouble.reached()
