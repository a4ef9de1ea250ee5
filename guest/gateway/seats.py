"""What each caller has at this gateway: a connection to the host of its own, and a meter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from mlxbridge import AsyncClient
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.limits import Meter


class Seat:
    """Of one caller, as long as the keys file has her with the same token.

    Attributes:
        client: the connection that her calls take.
        meter: what she has under way, and has spent.
    """

    def __init__(self, token: str | None, client: AsyncClient, meter: Meter) -> None:
        self.token = token
        self.client = client
        self.meter = meter
        self.num_users = 0
        self.is_retired = False


class Seats:
    """All of them, each made with the first request of its caller.

    Args:
        connect: makes a connection for a token of the host's; None: the gateway's own.
    """

    def __init__(self, connect: Callable[[str | None], AsyncClient]) -> None:
        self._connect = connect
        self._seats: dict[str, Seat] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, caller: Caller) -> Seat:
        """The caller's, for one request; to be left at its end."""
        seat = self._seats.get(caller.name)
        if seat is None or seat.token != caller.token:
            meter = Meter(caller) if seat is None else seat.meter
            if seat is not None:
                self._retire(seat)
            seat = self._seats[caller.name] = Seat(caller.token, self._connect(caller.token), meter)
        seat.meter.update(caller)
        seat.num_users += 1
        return seat

    def leave(self, seat: Seat) -> None:
        """A request has ended."""
        seat.num_users -= 1
        if seat.is_retired and not seat.num_users:
            self._close(seat)

    @property
    def in_flight(self) -> dict[str, int]:
        """How many requests each caller has that count against its limit, by its name."""
        return {name: seat.meter.in_flight for name, seat in self._seats.items()}

    def keep(self, names: Collection[str]) -> None:
        """Only these callers are left: connections of the others end with their last request."""
        for name in self._seats.keys() - set(names):
            self._retire(self._seats.pop(name))

    async def close(self) -> None:
        """Close all connections."""
        for seat in self._seats.values():
            self._close(seat)
        self._seats.clear()
        await asyncio.gather(*self._closing)

    def _retire(self, seat: Seat) -> None:
        seat.is_retired = True
        if not seat.num_users:
            self._close(seat)

    def _close(self, seat: Seat) -> None:
        task = asyncio.ensure_future(seat.client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
