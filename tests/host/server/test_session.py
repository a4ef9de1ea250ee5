"""Sessions on real sockets, under uvloop's rules and asyncio's alike: what a guest may do, and what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.addresses import parse_listen
from mlxbridge.errors import (
    BridgeError,
    DeadlineExceeded,
    HandshakeTimeout,
    InternalError,
    InvalidArgument,
    LimitExceeded,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.host.server import guest_calls as guest_calls_module
from mlxbridge.host.server import listener as listener_module
from mlxbridge.host.server import session as session_module
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.listener import Listener
from mlxbridge.host.server.running import Running
from mlxbridge.host.server.session import Session
from mlxbridge.host.telemetry.request import EndedRequest
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.protocol import GuestConnection, HostConnection, Limits, Token, Windows, answering
from mlxbridge.protocol.events import (
    CallOpened,
    Closed,
    DataReceived,
    ErrorReceived,
    Event,
    GoawayReceived,
    ItemReceived,
    ResultReceived,
)


class FakeMethods:
    """Opens whatever it is asked to, and remembers it."""

    def __init__(self) -> None:
        self.opened: list[CallOpened] = []
        self.cancelled: list[int] = []
        self.calls: GuestCalls | None = None  # of the guest that made the latest call
        self.running: Running | None = (
            None  # for calls of other methods, instead of one that can only be cancelled
        )

    def open(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        self.opened.append(event)
        self.calls = calls
        if event.method == "refuse":
            raise InvalidArgument("no", details={"field": "x"})
        if event.method == "break":
            raise RuntimeError("a bug")
        if event.method == "finish":
            calls.finish(event.call, {"ok": True})
            return None
        if event.method == "boast":
            calls.finish(event.call, {"text": "x" * (1 << 16)})
            return None
        if event.method == "work":
            return calls.run(event.call, lambda: self._work(event))
        return self.running or Running(lambda: self.cancelled.append(event.call))

    async def _work(self, event: CallOpened) -> Mapping[str, Any]:
        if event.params.get("fail"):
            raise ValueError("inside")
        await asyncio.sleep(0)
        return {"worked": True}


class Guest:
    """A guest's connection on asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **options: Any) -> None:
        self.reader, self.writer = reader, writer
        self.connection = GuestConnection(**{"software": "test", "nonce": os.urandom(32), **options})
        self.seen: list[Event] = []

    async def until(self, kind: type[Event]) -> Event:
        """The next event of a kind."""
        while True:
            for number, event in enumerate(self.seen):
                if isinstance(event, kind):
                    return self.seen.pop(number)
            await self.pump()

    async def pump(self) -> None:
        self.writer.writelines([bytes(data) for data in self.connection.data_to_send()])
        data = await asyncio.wait_for(self.reader.read(1 << 16), 10)
        if data:
            self.connection.receive_data(data)
        else:
            self.connection.receive_eof()
        self.seen += self.connection.events()

    async def handshake(self) -> None:
        while not self.connection.ready:
            await self.pump()

    def send(self) -> None:
        self.writer.writelines([bytes(data) for data in self.connection.data_to_send()])


class Rig:
    """A listener on a unix socket, and guests of it."""

    def __init__(self, listener: Listener, methods: FakeMethods, path: str) -> None:
        self.listener, self.methods, self.path = listener, methods, path
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def calls(self) -> GuestCalls:
        """Those of the guest that made the latest call."""
        assert self.methods.calls is not None
        return self.methods.calls

    @property
    def session(self) -> Session:
        """Of the guest that made the latest call."""
        return next(session for session in self.listener._sessions if session.calls is self.calls)

    async def guest(self, **options: Any) -> Guest:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self._writers.append(writer)
        return Guest(reader, writer, **options)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.listener.stop_listening()
        await self.listener.close("over")


@contextlib.asynccontextmanager
async def rig(
    tokens: Mapping[str, bytes] | None = None,
    telemetry: Telemetry | None = None,
    *,
    resume_grace_s: float = 0.0,
) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        path = str(Path(folder, "s"))
        listener = Listener(tokens, telemetry, resume_grace_s=resume_grace_s)
        methods = FakeMethods()
        await listener.listen([parse_listen(f"unix:{path}")], methods)
        made = Rig(listener, methods, path)
        try:
            yield made
        finally:
            await made.close()


async def ask(guest: Guest, method: str, deadline_ms: int | None = None, **params: Any) -> Event:
    guest.connection.open_call(method, params, deadline_ms=deadline_ms)
    while True:
        for number, event in enumerate(guest.seen):
            if isinstance(event, ResultReceived | ErrorReceived):
                return guest.seen.pop(number)
        await guest.pump()


def says(end: Event, call: int | None = None, **result: Any) -> bool:
    """Whether a call ended well and so, beside its name."""
    assert isinstance(end, ResultReceived)
    return end.call == (call or end.call) and {**end.result, "request_id": ""} == {**result, "request_id": ""}


async def test_answers_come_from_methods() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        assert says(await ask(guest, "finish"), ok=True)
        assert says(await ask(guest, "work"), worked=True)


async def test_guests_without_a_token_are_told_apart_by_connection() -> None:
    async with rig() as made:
        origins = []
        for _ in range(2):
            guest = await made.guest()
            await guest.handshake()
            await ask(guest, "finish")
            origins.append(made.calls.origin(0, None))
        assert origins[0].guest != origins[1].guest
        assert all(origin.cache_scope == "" and origin.deadline_at is None for origin in origins)


async def test_guests_with_one_token_are_one_and_keep_their_prefixes_apart_from_others() -> None:
    tokens = {"alice": b"secret of alice", "bob": b"secret of bob"}
    async with rig(tokens) as made:
        origins = []
        for name in ("alice", "alice", "bob"):
            guest = await made.guest(token=Token(name, tokens[name]))
            await guest.handshake()
            await ask(guest, "finish")
            origins.append(made.calls.origin(0, None))
        assert origins[0] == origins[1]
        assert origins[0].guest != origins[2].guest
        assert [origin.cache_scope for origin in origins] == ["alice", "alice", "bob"]


async def test_deadline_counts_from_when_the_call_came() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        await ask(guest, "finish")
        before = time.monotonic()
        deadline_at = made.calls.origin(0, 2500).deadline_at
        assert deadline_at is not None and before <= deadline_at - 2.5 <= time.monotonic()


@pytest.mark.parametrize(
    ("method", "params", "kind"),
    [("refuse", {}, InvalidArgument), ("break", {}, InternalError), ("work", {"fail": True}, InternalError)],
)
async def test_failures_become_typed_errors(
    method: str, params: dict[str, Any], kind: type[BridgeError]
) -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        end = await ask(guest, method, **params)
        assert isinstance(end, ErrorReceived)
        assert type(end.error) is kind
        assert says(await ask(guest, "finish"), ok=True)


async def test_cancel_reaches_the_method_and_ends_the_call() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("hang", {})
        guest.connection.cancel(call)
        end = await guest.until(ResultReceived)
        assert says(end, call, finish_reason="cancelled")
        assert made.methods.cancelled == [call]


async def test_deadline_cancels_and_fails_the_call() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        end = await ask(guest, "hang", deadline_ms=20)
        assert isinstance(end, ErrorReceived)
        assert isinstance(end.error, DeadlineExceeded) and "0.02 s" in end.error.message
        assert made.methods.cancelled == [1]


async def test_call_that_holds_too_many_logprobs_back_fails_and_stops_its_model() -> None:
    async with rig() as made:
        guest = await made.guest(windows=Windows(items=1))
        await guest.handshake()
        full, other = (guest.connection.open_call("hang", {}) for _ in range(2))
        await ask(guest, "finish")
        for _ in range(6):
            made.calls.send_tokens([full, other], [[1], [1]], ["a", "b"], [[bytes(1 << 20)], [b"small"]])
            made.calls.flush()
        assert made.methods.cancelled == [full]
        guest.connection.consume(full, items=9)
        end = await guest.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and (end.call, type(end.error)) == (full, LimitExceeded)


async def test_call_with_a_part_that_the_guest_cannot_take_fails_and_stops_its_model() -> None:
    async with rig() as made:
        guest = await made.guest(limits=Limits(max_head_bytes=65_536))
        await guest.handshake()
        full, other = (guest.connection.open_call("hang", {}) for _ in range(2))
        await ask(guest, "finish")
        for part in ([2, 0, "id", "name", "x" * 70_000], [1, "hm"]):
            made.calls.send_tokens([full, other], [[1], [1]], ["", ""], None, [[part], [[1, "a"]]])
            made.calls.flush()
        assert made.methods.cancelled == [full]
        end = await guest.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and (end.call, type(end.error)) == (full, LimitExceeded)


async def test_lost_guest_cancels_its_calls() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        guest.writer.close()
        await guest.writer.wait_closed()
        while not made.methods.cancelled:
            await asyncio.sleep(0)
        assert made.methods.cancelled == [1]
        while made.listener.count() != (0, 0):
            await asyncio.sleep(0)


async def test_guest_that_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HANDSHAKE_TIMEOUT_S", 0.02)
    async with rig() as made:
        guest = await made.guest()
        guest.connection.data_to_send()  # nothing of it is sent
        closed = await guest.until(Closed)
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, HandshakeTimeout)


async def test_too_many_connections_are_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "MAX_CONNECTIONS", 1)
    async with rig() as made:
        first = await made.guest()
        await first.handshake()
        second = await made.guest()
        closed = await second.until(Closed)
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, Unavailable)
        assert says(await ask(first, "finish"), ok=True)


async def test_draining_lets_open_calls_end_and_refuses_new_ones() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        drain = asyncio.ensure_future(made.listener.drain("bye", 10))
        goaway = await guest.until(GoawayReceived)
        assert isinstance(goaway, GoawayReceived)
        assert goaway.drain_ms == 10_000
        assert not guest.connection.can_open
        made.calls.finish(call, {"late": True})
        made.calls.flush()
        assert says(await guest.until(ResultReceived), call, late=True)
        assert await drain is True


async def test_draining_gives_up_at_its_timeout() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        assert await made.listener.drain("bye", 0.01) is False
        await made.listener.close("bye")
        end = await guest.until(ErrorReceived)
        assert isinstance(end, ErrorReceived)
        assert isinstance(end.error, Unavailable)
        assert made.methods.cancelled == [1]


async def test_call_under_way_when_draining_begins_is_refused_by_name() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("finish", {})
        under_way = [bytes(data) for data in guest.connection.data_to_send()]
        drain = asyncio.ensure_future(made.listener.drain("bye", 10))
        await guest.until(GoawayReceived)  # the session is idle, and has said that it takes no more
        guest.writer.writelines(under_way)
        end = await guest.until(ErrorReceived)
        assert isinstance(end, ErrorReceived)
        assert end.call == call
        assert isinstance(end.error, Unavailable)
        assert end.error.details == {"started": False}
        assert await drain is True
        assert made.methods.opened == []


async def test_call_cancelled_in_the_same_read_leaves_no_coroutine_behind() -> None:
    """Warnings are errors here, also that a coroutine was never awaited."""
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("work", {})
        guest.connection.cancel(call)
        assert says(await guest.until(ResultReceived), call, finish_reason="cancelled")
        await asyncio.sleep(0)
        gc.collect()


async def test_items_reach_the_guest_before_the_end() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        made.calls.send_item(call, {"stage": "loading"})
        assert await guest.until(ItemReceived) == ItemReceived(call, {"stage": "loading"})


async def test_credit_for_items_is_told_to_who_asked() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("hang", {}, windows=Windows(items=4))
        await ask(guest, "finish")
        calls = made.calls
        told: list[int] = []
        assert calls.watch_credit(call, told.append) == 4
        guest.connection.grant(call, items=9)
        await ask(guest, "finish")
        assert max(told) == told[-1] == 9
        calls.finish(call, {})
        await ask(guest, "finish")
        count = len(told)
        await ask(guest, "finish")
        assert len(told) == count, "the call has ended"


async def test_call_whose_items_the_guest_does_not_take_fails_and_stops_its_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "MAX_QUEUED_ITEMS", 3)
    async with rig() as made:
        guest = await made.guest(limits=Limits(max_head_bytes=65_536))
        await guest.handshake()
        piles_up = guest.connection.open_call("hang", {}, windows=Windows(items=0))
        too_large = guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        calls = made.calls
        for number in range(5):
            calls.send_item(piles_up, number)
        calls.send_item(too_large, "x" * 70_000)
        assert made.methods.cancelled == [piles_up, too_large]
        guest.connection.grant(piles_up, items=3)
        ends = [await guest.until(ErrorReceived) for _ in range(2)]
        assert all(isinstance(end, ErrorReceived) and isinstance(end.error, LimitExceeded) for end in ends)


async def test_payloads_reach_the_guest_as_it_gives_credit_and_only_so_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guest_calls_module, "MAX_HELD_PAYLOAD_BYTES", 1_000)
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        windows = Windows(items=0, bytes=300)
        first, second = (guest.connection.open_call("hang", {}, windows=windows) for _ in range(2))
        await ask(guest, "finish")
        calls = made.calls
        left: list[int] = []
        calls.begin_data(first, {"shape": [900]}, 900, left.append)
        calls.begin_data(second, {"shape": [200]}, 200, left.append)
        assert made.methods.cancelled == [second]
        calls.continue_data(second, memoryview(bytes(200)))  # too late, and no harm
        for _ in range(10):
            calls.continue_data(first, memoryview(bytes(range(90))))
        calls.finish(first, {})
        calls.flush()
        end = await guest.until(ErrorReceived)
        assert isinstance(end, ErrorReceived) and (end.call, type(end.error)) == (second, LimitExceeded)
        data = await guest.until(DataReceived)
        assert isinstance(data, DataReceived)
        assert (data.meta["shape"], bytes(data.data)) == ([900], bytes(range(90)) * 10)
        assert sum(left) == 900
        await guest.until(ResultReceived)


async def test_what_a_guest_calls_itself_cannot_forge_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with rig() as made:
        guest = await made.guest(software="x\n12:00:00 INFO    all is well")
        await guest.handshake()
        await ask(guest, "finish")
        other = await made.guest()
        other.connection.data_to_send()
        other.writer.write(b"a\nforged\r")
        await other.until(Closed)
    assert not any("\n" in record.getMessage() for record in caplog.records)
    assert any("x\\n12:00:00" in record.getMessage() for record in caplog.records)


async def test_silent_guest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "KEEPALIVE_INTERVAL_S", 0.01)
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        await ask(guest, "finish")
        # It answers no PING from here on.
        guest.connection.open_call("hang", {})
        guest.send()
        while not guest.reader.at_eof():
            await asyncio.wait_for(guest.reader.read(1 << 16), 10)
        assert made.methods.cancelled == [2]
        while made.listener.count() != (0, 0):
            await asyncio.sleep(0)


async def test_silent_passive_guest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "KEEPALIVE_INTERVAL_S", 0.001)
    ticks = asyncio.Semaphore(0)
    keepalive = HostConnection.keepalive

    def counted(connection: HostConnection) -> None:
        keepalive(connection)
        ticks.release()

    monkeypatch.setattr(HostConnection, "keepalive", counted)
    async with rig() as made:
        guest = await made.guest(passive=True)
        await guest.handshake()
        for _ in range(10):  # three would do for one that is not passive
            await ticks.acquire()
        assert says(await ask(guest, "finish"), ok=True)


async def test_cancel_of_the_last_call_ends_a_draining_session() -> None:
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        call = guest.connection.open_call("hang", {})
        await ask(guest, "finish")
        drain = asyncio.ensure_future(made.listener.drain("bye", 10))
        await guest.until(GoawayReceived)
        guest.connection.cancel(call)
        await guest.until(ResultReceived)
        assert await drain is True


async def test_refusal_is_read_although_the_guest_had_more_to_say() -> None:
    """The host closes while bytes of the guest lie unread, which would reset the link and take the reason back."""
    async with rig() as made:
        guest = await made.guest()
        await guest.handshake()
        for _ in range(20):
            guest.connection.open_call("hang", {"text": "x" * 100_000})
        guest.writer.writelines([b"\x00" * 16, *map(bytes, guest.connection.data_to_send())])
        closed = await guest.until(Closed)
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, RemoteProtocolError)


async def test_token_names_the_guest() -> None:
    async with rig({"alice": b"secret-of-alice"}) as made:
        guest = await made.guest(token=Token("alice", b"secret-of-alice"))
        await guest.handshake()
        await ask(guest, "finish")
        assert made.calls.peer.startswith("alice@unix")


@pytest.mark.parametrize(
    ("deadline_ms", "outcome"), [(1, "DeadlineExceeded"), (60_000, "cancelled"), (None, "cancelled")]
)
async def test_cancel_at_the_deadline_is_told_of_as_that(deadline_ms: int | None, outcome: str) -> None:
    telemetry = Telemetry()
    heard: list[EndedRequest] = []
    telemetry.listen(heard.append)
    async with rig(telemetry=telemetry) as made:
        guest = await made.guest()
        await guest.handshake()
        guest.connection.cancel(guest.connection.open_call("hang", {}, deadline_ms=deadline_ms))
        end = await guest.until(ResultReceived)
    assert isinstance(end, ResultReceived) and end.result["finish_reason"] == "cancelled"
    assert [ended.outcome for ended in heard] == [outcome]


async def test_result_that_the_guest_does_not_take_is_told_of_as_the_error_it_becomes() -> None:
    telemetry = Telemetry()
    heard: list[EndedRequest] = []
    telemetry.listen(heard.append)
    async with rig(telemetry=telemetry) as made:
        guest = await made.guest(limits=Limits(max_head_bytes=1 << 16))
        await guest.handshake()
        end = await ask(guest, "boast")
    assert isinstance(end, ErrorReceived) and isinstance(end.error, InternalError)
    assert [ended.outcome for ended in heard] == ["InternalError"]
    assert heard[0].request.request_id == end.error.request_id


async def test_every_end_of_a_call_bears_the_name_that_telemetry_hears() -> None:
    telemetry = Telemetry()
    heard: list[EndedRequest] = []
    telemetry.listen(heard.append)
    async with rig(telemetry=telemetry) as made:
        guest = await made.guest()
        await guest.handshake()
        result = await ask(guest, "finish")
        refused = await ask(guest, "work", fail=True)
        late = await ask(guest, "hang", deadline_ms=1)
        call = guest.connection.open_call("hang", {})
        guest.connection.cancel(call)
        cancelled = await guest.until(ResultReceived)
        guest.connection.open_call("hang", {})
        guest.send()
        while len(made.methods.opened) < 5:
            await asyncio.sleep(0)
        guest.writer.close()
        while len(heard) < 5:
            await asyncio.sleep(0)
    assert [ended.outcome for ended in heard] == [
        "ok",
        "InternalError",
        "DeadlineExceeded",
        "cancelled",
        "ConnectionLost",
    ]
    told = [result.result["request_id"], refused.error.request_id, late.error.request_id]  # type: ignore[union-attr]
    told.append(cancelled.result["request_id"])  # type: ignore[union-attr]
    assert told == [ended.request.request_id for ended in heard][:4]
    assert {ended.request.guest[:10] for ended in heard} == {"connection"}
