"""Guests whose link breaks, and who come back for their calls: on real sockets, with calls that a test answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from mlxbridge.errors import Gone
from mlxbridge.host.server import away as away_module
from mlxbridge.host.server.running import Running
from mlxbridge.host.server.session import Session
from mlxbridge.host.telemetry.request import EndedRequest
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.protocol.events import Closed, ErrorReceived, ResultReceived, Resumed, TokensReceived
from mlxbridge.protocol.handshake import RESUME, Resumption, Token
from tests.host.server.test_session import Guest, Rig, rig

FEATURES = frozenset({RESUME})
SECRETS = {"alice": b"the secret of alice", "bob": b"the secret of bob"}


class Held:
    """What a session has done to a call."""

    def __init__(self, made: Rig, *, can_wait: bool = True) -> None:
        self.did: list[str] = []
        self._can_wait = can_wait
        made.methods.running = Running(
            cancel=lambda: self.did.append("cancel"),
            hold=self._hold,
            go_on=lambda: self.did.append("go on"),
        )

    def _hold(self) -> bool:
        self.did.append("hold")
        return self._can_wait


async def with_a_call(
    made: Rig, method: str = "generate", deadline_ms: int | None = None, **options: Any
) -> Guest:
    """A guest that can come back, and has made a call."""
    guest = await made.guest(features=FEATURES, **options)
    await guest.handshake()
    num_opened = len(made.methods.opened)
    guest.connection.open_call(method, {}, deadline_ms=deadline_ms)
    guest.send()
    await until(lambda: len(made.methods.opened) > num_opened)
    return guest


async def cut_after_a_token(made: Rig, **options: Any) -> Guest:
    """A guest that was told of a token, and lost its link; another token came meanwhile."""
    guest = await with_a_call(made, **options)
    session = made.session
    session.calls.send_tokens([1], [[7]], ["one"])
    session.flush()
    await guest.until(TokensReceived)
    guest.writer.transport.abort()
    await until(lambda: session.is_away)
    lose(guest)
    session.calls.send_tokens([1], [[8]], ["two"])
    return guest


def lose(guest: Guest) -> None:
    """The guest learns that its link is gone."""
    guest.connection.receive_eof()
    guest.connection.events()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def return_of(guest: Guest, made: Rig) -> Guest:
    """The same guest, over another link."""
    guest.connection.come_back(os.urandom(32), lambda call: None)
    again = await made.guest()
    again.connection = guest.connection
    return again


async def test_guest_comes_back_to_what_it_missed() -> None:
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        guest = await cut_after_a_token(made)
        assert made.listener.count() == (0, 1) and held.did == ["hold"]
        again = await return_of(guest, made)
        assert isinstance(await again.until(Resumed), Resumed)
        tokens = await again.until(TokensReceived)
        assert isinstance(tokens, TokensReceived) and tokens.token_ids == [[8]]
        assert made.listener.count() == (1, 1) and held.did == ["hold", "go on"]
        made.calls.finish(1, {"ok": True})
        made.calls.flush()
        await again.until(ResultReceived)


async def test_call_that_cannot_wait_ends_as_gone() -> None:
    async with rig(resume_grace_s=30) as made:
        held = Held(made, can_wait=False)
        again = await return_of(await cut_after_a_token(made), made)
        end = await again.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and isinstance(end.error, Gone)
        assert end.error.details == {"repeatable": True}
        assert held.did == ["hold", "cancel"]


async def test_after_the_grace_calls_are_cancelled_and_gone() -> None:
    async with rig(resume_grace_s=0.05) as made:
        held = Held(made)
        guest = await cut_after_a_token(made)
        await until(lambda: made.listener.count() == (0, 0))
        assert held.did == ["hold", "cancel"]
        await assert_gone(await return_of(guest, made))


async def test_without_grace_calls_end_with_the_link() -> None:
    async with rig(resume_grace_s=0) as made:
        held = Held(made)
        guest = await with_a_call(made)
        assert guest.connection.grace_ms is None
        guest.writer.close()
        await until(lambda: held.did == ["cancel"])


async def test_guest_that_says_goodbye_has_its_calls_cancelled_at_once() -> None:
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        guest = await with_a_call(made)
        guest.connection.leave(Gone("enough"))
        guest.send()
        await until(lambda: made.listener.count() == (0, 0))
        assert held.did == ["cancel"]


async def test_guest_may_come_back_before_the_host_has_noticed_that_it_was_away() -> None:
    async with rig(resume_grace_s=30) as made:
        Held(made)
        guest = await with_a_call(made)
        lose(guest)
        again = await return_of(guest, made)
        await again.until(Resumed)
        assert await asyncio.wait_for(guest.reader.read(), 10) is not None  # the old link is closed
        assert made.listener.count() == (1, 1)


async def test_call_whose_guest_lost_a_part_of_the_payload_is_cancelled_and_told_once_as_gone() -> None:
    ends: list[EndedRequest] = []
    telemetry = Telemetry()
    telemetry.listen(ends.append)
    async with rig(telemetry=telemetry, resume_grace_s=30) as made:
        held = Held(made)
        guest = await with_a_call(made, "embed")
        made.calls.begin_data(1, {}, 1000, lambda num_bytes: None)
        made.calls.continue_data(1, memoryview(bytes(500)))
        made.calls.flush()
        lose(guest)  # before any of it has come
        again = await return_of(guest, made)
        end = await again.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and isinstance(end.error, Gone)
        assert held.did == ["cancel"]
        assert [type(told.error) for told in ends] == [Gone]


async def test_session_of_a_guest_that_has_stalled_ends_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlxbridge.transport.driver.CLOSE_TIMEOUT_S", 0.05)
    async with rig(resume_grace_s=30) as made:
        Held(made)
        lost: list[Session] = []
        forget = made.listener._on_lost

        def note(session: Session) -> None:
            lost.append(session)
            forget(session)

        made.listener._on_lost = note  # type: ignore[method-assign]
        await with_a_call(made)
        session = made.session
        for _ in range(3):
            session.calls.send_item(1, bytes(1 << 20))
        transport = session.driver.transport
        assert transport is not None and transport.get_write_buffer_size() > 0
        while not session.is_away:
            session._tick_keepalive()
        session.close(Gone("over"))
        await asyncio.sleep(0.2)
        assert lost == [session]


async def test_only_the_same_guest_with_the_secret_may_come_back() -> None:
    async with rig(SECRETS, resume_grace_s=30) as made:
        held = Held(made)
        guest = await cut_after_a_token(made, token=Token("alice", SECRETS["alice"]))
        own = guest.connection._resumption
        assert own is not None
        guesses = [
            ("bob", own),
            ("alice", Resumption(own.link, bytes(32), 0)),
            ("alice", Resumption(bytes(16), own.secret, 0)),
        ]
        for name, guess in guesses:
            thief = await made.guest(features=FEATURES, token=Token(name, SECRETS[name]))
            await thief.handshake()
            thief.connection.open_call("steal", {})
            thief.connection.receive_eof()
            thief.connection._resumption = guess
            await assert_gone(await return_of(thief, made))
        assert held.did[:1] == ["hold"] and "go on" not in held.did
        again = await return_of(guest, made)
        await again.until(TokensReceived)


async def test_no_more_waits_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away_module, "MAX_AWAY", 1)
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        await cut_after_a_token(made)
        second = await with_a_call(made)
        second.writer.close()
        await until(lambda: "cancel" in held.did)
        assert made.listener.count() == (0, 1)


async def test_guest_of_which_too_much_is_kept_is_told_and_others_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(away_module, "MAX_KEPT_BYTES", 100_000)
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        guests, sessions = [], []
        for num_bytes in (70_000, 40_000):
            guests.append(await with_a_call(made))
            sessions.append(made.session)
            made.calls.send_item(1, bytes(num_bytes))
            assert made.listener.away.kept_pool.num_bytes <= 100_000
        for guest, session in zip(guests, sessions, strict=True):
            guest.writer.transport.abort()  # before it has read any of it
            await until(lambda session=session: session.is_away)  # type: ignore[misc]
            lose(guest)
        again = await return_of(guests[1], made)
        assert isinstance(await again.until(Resumed), Resumed)
        end = await (await return_of(guests[0], made)).until(Closed)
        assert isinstance(end, Closed) and isinstance(end.error, Gone)
        assert "has not kept all that the guest has missed" in end.error.message
        assert held.did == ["hold", "hold", "go on", "cancel"]
        await until(lambda: made.listener.count() == (1, 1))


async def test_nobody_comes_back_to_a_host_that_drains() -> None:
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        await cut_after_a_token(made)
        assert await made.listener.drain("over", 10)
        assert held.did == ["hold", "cancel"]


async def test_deadlines_run_on_while_the_guest_is_away() -> None:
    async with rig(resume_grace_s=30) as made:
        held = Held(made)
        guest = await with_a_call(made, deadline_ms=50)
        guest.writer.close()
        await until(lambda: held.did[-1:] == ["cancel"])
        guest.connection.receive_eof()
        again = await return_of(guest, made)
        end = await again.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and end.error.code == 17


async def assert_gone(guest: Guest) -> None:
    end = await guest.until(Closed)
    assert isinstance(end, Closed) and isinstance(end.error, Gone), end
