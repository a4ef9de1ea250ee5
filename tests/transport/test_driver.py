"""The driver on real sockets: what it does when the other side does not do its part."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from mlxbridge.transport import driver as driver_module
from mlxbridge.transport.driver import Buffer, Driver

Run = Callable[[Coroutine[Any, Any, None]], None]
MUCH = bytes(8 * 1024 * 1024)  # more than any socket buffer takes


class Machine:
    """Has one thing to say, and is then over if it is told so."""

    def __init__(self, said: bytes = b"", *, lingering: bool = False) -> None:
        self.closed = False
        self.lingering = lingering
        self._said = [said] if said else []
        self._memory = bytearray(1024)

    def receive_buffer(self) -> memoryview:
        return memoryview(self._memory)

    def received(self, count: int) -> bool:
        return True

    def receive_eof(self) -> None:
        self.closed = True

    def data_to_send(self) -> Sequence[Buffer]:
        said, self._said = self._said, []
        return said

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Link:
    """A driver on one end of a socket pair; the test holds the other."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.lost = asyncio.Event()
        self.driver = Driver(machine, lambda: None, self.lost.set)
        self.peer, self._ours = socket.socketpair()
        self._ours.setblocking(False)

    async def open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self.driver, sock=self._ours)

    async def until_lost(self) -> None:
        with self.peer:
            await asyncio.wait_for(self.lost.wait(), 10)


@pytest.mark.parametrize("lingering", [False, True])
def test_peer_that_does_not_read_is_dropped(
    run: Run, monkeypatch: pytest.MonkeyPatch, lingering: bool
) -> None:
    monkeypatch.setattr(driver_module, "CLOSE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(driver_module, "LINGER_S", 0.01)

    async def main() -> None:
        link = Link(Machine(MUCH, lingering=lingering))
        await link.open()
        link.machine.closed = True
        link.driver.flush()
        await link.until_lost()

    run(main())


def test_peer_that_ends_its_words_and_does_not_read_is_dropped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "CLOSE_TIMEOUT_S", 0.01)

    async def main() -> None:
        link = Link(Machine(MUCH))
        await link.open()
        link.peer.shutdown(socket.SHUT_WR)
        await link.until_lost()

    run(main())


def test_peer_that_reads_gets_all_before_the_close(run: Run) -> None:
    async def main() -> None:
        link = Link(Machine(MUCH))
        await link.open()
        link.machine.closed = True
        link.driver.flush()

        def read() -> int:
            num_bytes = 0
            while data := link.peer.recv(1 << 20):
                num_bytes += len(data)
            return num_bytes

        assert await asyncio.to_thread(read) == len(MUCH)
        await link.until_lost()

    run(main())


def test_lost_transport_leaves_no_timer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    aborted: list[bool] = []
    monkeypatch.setattr(driver_module, "CLOSE_TIMEOUT_S", 0.01)

    async def main() -> None:
        link = Link(Machine(b"bye"))
        await link.open()
        transport = link.driver.transport
        assert transport is not None
        link.machine.closed = True
        link.driver.flush()
        await link.until_lost()
        give_up = link.driver._give_up
        assert give_up is not None
        aborted.append(give_up.cancelled())

    run(main())
    assert aborted == [True]
