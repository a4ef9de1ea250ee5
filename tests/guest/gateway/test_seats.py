"""A connection to the host for each caller, for as long as there is one."""

from __future__ import annotations

import asyncio

from mlxbridge import AsyncClient
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.seats import Seats


class Clients:
    def __init__(self) -> None:
        self.made: list[str | None] = []
        self.closed: list[str | None] = []

    def connect(self, token: str | None) -> AsyncClient:
        self.made.append(token)
        clients = self

        class Client(AsyncClient):
            async def close(self) -> None:
                clients.closed.append(token)
                await super().close()

        return Client("unix:///nowhere", token=token)


def caller(name: str, token: str | None = None) -> Caller:
    return Caller(name=name, token=token and f"{name}:secret-{token}")


async def test_requests_of_a_caller_share_a_seat() -> None:
    clients = Clients()
    seats = Seats(clients.connect)
    first, second = seats.take(caller("alice")), seats.take(caller("alice"))
    other = seats.take(caller("bob"))
    assert first is second and first.client is not other.client
    seats.leave(first)
    seats.leave(second)
    assert seats.take(caller("alice")) is first
    await seats.close()
    assert len(clients.made) == len(clients.closed) == 2


async def test_connection_of_a_caller_who_is_gone_ends_with_its_last_request() -> None:
    clients = Clients()
    seats = Seats(clients.connect)
    busy, idle = seats.take(caller("busy", "1")), seats.take(caller("idle", "1"))
    stays = seats.take(caller("stays"))
    for seat in (idle, stays):
        seats.leave(seat)
    seats.keep({"stays"})
    await asyncio.sleep(0)
    assert clients.closed == ["idle:secret-1"]
    assert seats.take(caller("stays")) is stays
    seats.leave(busy)
    await asyncio.sleep(0)
    assert clients.closed == ["idle:secret-1", "busy:secret-1"]


async def test_caller_with_another_token_has_another_connection_and_the_same_meter() -> None:
    clients = Clients()
    seats = Seats(clients.connect)
    before = seats.take(caller("alice", "1"))
    before.meter.enter()
    seats.keep({"alice"})
    after = seats.take(caller("alice", "2"))
    assert clients.made == ["alice:secret-1", "alice:secret-2"]
    seats.leave(before)
    await asyncio.sleep(0)
    assert clients.closed == ["alice:secret-1"]
    assert after.meter.in_flight == 1
