"""A guest and a host under everything at once; a model says what each call must have received."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlxbridge.errors import Cancelled, Overloaded
from mlxbridge.protocol import GuestConnection, HostConnection, Limits, Windows
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.events import (
    CallCancelled,
    CallOpened,
    DataReceived,
    ErrorReceived,
    Event,
    ItemReceived,
    PongReceived,
    ResultReceived,
    TokensReceived,
)
from mlxbridge.protocol.held import Delta, Payload
from mlxbridge.protocol.parts import REASONING, TOOL_CALL, Part, melt
from tests.helpers.wire import make_guest, make_host, pump, unsent

GUEST_LIMITS = Limits(max_head_bytes=65_536, max_piece_bytes=4096, max_unacked_frames=8)
HOST_LIMITS = Limits(max_calls=6, max_unacked_frames=8)
MAX_PAYLOAD = 40_000

picks = st.integers(min_value=0, max_value=1000)
sides = st.booleans()
windows = st.builds(
    Windows, items=st.sampled_from([1, 2, 3, 256]), bytes=st.sampled_from([600, 5000, 9000, 1 << 20])
)


class PairMachine(RuleBasedStateMachine):
    allowed: tuple[type[Event], ...] = (PongReceived,)
    """What a connection may tell beside what is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.guest, self.host = self.make_ends()
        pump(self.guest, self.host)
        self.guest.events()
        self.host.events()
        self.to_host, self.to_guest = bytearray(), bytearray()
        self.windows: dict[int, Windows] = {}
        self.at_guest: set[int] = set()  # calls the guest has open
        self.at_host: dict[int, bool] = {}  # calls the host must still end: whether it knows of a cancel
        self.cancelled: set[int] = set()
        self.sent: dict[int, list[Any]] = defaultdict(list)
        self.sent_text: dict[int, str] = defaultdict(str)
        self.sent_logprobs: dict[int, list[bytes | None]] = defaultdict(list)  # one for each token
        self.num_logprobs: dict[int, int] = defaultdict(int)
        self.num_got: dict[int, int] = defaultdict(int)
        self.num_chars: dict[int, int] = defaultdict(int)
        self.sent_parts: dict[int, list[Part]] = defaultdict(list)
        self.got_parts: dict[int, list[Part]] = defaultdict(list)
        self.said_end: dict[int, str] = {}
        self.got_end: dict[int, str] = {}
        self.items: dict[int, int] = defaultdict(int)  # received and not yet taken
        self.bytes: dict[int, list[int]] = defaultdict(list)
        self.next_token = 0

    def make_ends(self) -> tuple[GuestConnection, HostConnection]:
        return make_guest(limits=GUEST_LIMITS), make_host(limits=HOST_LIMITS)

    @initialize(windows=st.lists(windows, min_size=1, max_size=4))
    def begin(self, windows: list[Windows]) -> None:
        for each in windows:
            self.open(each)
        self.exchange()

    # -- the guest's side

    @precondition(lambda self: self.guest.can_open)
    @rule(windows=windows)
    def open(self, windows: Windows) -> None:
        call = self.guest.open_call("work", {"n": len(self.windows)}, windows=windows)
        assert call not in self.windows
        self.windows[call] = windows
        self.at_guest.add(call)

    @precondition(lambda self: self.windows)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        call = list(self.windows)[pick % len(self.windows)]
        if call in self.at_guest:
            self.cancelled.add(call)
        self.guest.cancel(call)

    @precondition(lambda self: self.windows)
    @rule(pick=picks)
    def take(self, pick: int) -> None:
        call = list(self.windows)[pick % len(self.windows)]
        if self.bytes[call]:
            self.guest.consume(call, num_bytes=self.bytes[call].pop(0))
        self.guest.consume(call, items=self.items.pop(call, 0))

    # -- the host's side

    @precondition(lambda self: self.at_host)
    @rule(
        rows=st.lists(
            st.tuples(picks, st.integers(0, 3), st.text(max_size=3), st.booleans(), st.integers(0, 3)),
            min_size=1,
            max_size=5,
        ),
        has_logprobs=st.booleans(),
        has_parts=st.booleans(),
    )
    def step(self, rows: list[tuple[int, int, str, bool, int]], has_logprobs: bool, has_parts: bool) -> None:
        calls, token_ids, texts = [], [], []
        logprobs: list[list[bytes] | None] = []
        parts: list[list[Part] | None] = []
        for pick, count, text, wants_logprobs, num_parts in rows:
            call = list(self.at_host)[pick % len(self.at_host)]
            ids = list(range(self.next_token, self.next_token + count))
            self.next_token += count
            calls.append(call)
            token_ids.append(ids)
            texts.append(text)
            data = [b"%d" % token for token in ids] if has_logprobs and wants_logprobs else None
            logprobs.append(data)
            some = [self.make_part(number) for number in range(num_parts)] if has_parts else []
            parts.append(some or None)
            if not self.at_host[call]:
                self.sent_parts[call] += some
                self.sent[call] += ids
                self.sent_text[call] += text
                self.sent_logprobs[call] += data or [None] * count
        self.host.send_tokens(
            calls, token_ids, texts, logprobs if has_logprobs else None, parts if has_parts else None
        )

    def make_part(self, number: int) -> Part:
        self.next_token += 1
        if number % 2:
            return [TOOL_CALL, number, "id", f"tool {self.next_token}", "{}"]
        return [REASONING, f"thought {self.next_token} "]

    @precondition(lambda self: self.at_host)
    @rule(
        pick=picks,
        count=st.sampled_from([2000, 70_000]),
        data_bytes=st.sampled_from([0, 40]),
        has_parts=st.booleans(),
    )
    def large_step(self, pick: int, count: int, data_bytes: int, has_parts: bool) -> None:
        call = list(self.at_host)[pick % len(self.at_host)]
        text = "né" * count
        data = [bytes(data_bytes)] * count if data_bytes and count == 2000 else None
        parts: list[Part] = [[REASONING, "né" * count], self.make_part(1)] if has_parts else []
        if not self.at_host[call]:
            self.sent_parts[call] += parts
            self.sent[call] += [7] * count
            self.sent_text[call] += text
            self.sent_logprobs[call] += data or [None] * count
        self.host.send_tokens(
            [call], [[7] * count], [text], None if data is None else [data], [parts] if parts else None
        )

    @precondition(lambda self: self.at_host)
    @rule(pick=picks)
    def item(self, pick: int) -> None:
        call = list(self.at_host)[pick % len(self.at_host)]
        self.next_token += 1
        if not self.at_host[call]:
            self.sent[call].append(f"item {self.next_token}")
        self.host.send_item(call, f"item {self.next_token}")

    @precondition(lambda self: self.at_host)
    @rule(
        pick=picks,
        size=st.sampled_from([0, 1, 4095, 4096, 4097, 10_000, MAX_PAYLOAD]),
        in_parts=st.booleans(),
    )
    def data(self, pick: int, size: int, in_parts: bool) -> None:
        call = list(self.at_host)[pick % len(self.at_host)]
        self.next_token += 1
        data = self.next_token.to_bytes(4, "little") * (size // 4 + 1)
        if not self.at_host[call]:
            self.sent[call].append(data[:size])
        if in_parts and size:
            self.host.begin_data(call, {"n": self.next_token}, size)
            for part in (data[: size // 3], data[size // 3 : size]):
                self.host.continue_data(call, memoryview(part))
        else:
            self.host.send_data(call, {"n": self.next_token}, data[:size])

    @precondition(lambda self: self.at_host)
    @rule(pick=picks, well=st.booleans())
    def end(self, pick: int, well: bool) -> None:
        call = list(self.at_host)[pick % len(self.at_host)]
        del self.at_host[call]
        self.said_end[call] = "result" if well else "error"
        if well:
            self.host.finish(call, {"finish_reason": "stop"})
        else:
            self.host.fail(call, Overloaded("too much"))
        assert not self.host.is_open(call)
        self.host.send_tokens([call], [[1]], ["too late"])
        self.host.send_item(call, "too late")
        self.host.fail(call, Cancelled("too late"))

    # -- the transport

    @rule(host=sides)
    def flush(self, host: bool) -> None:
        if host:
            self.to_guest += unsent(self.host)
        else:
            self.to_host += unsent(self.guest)

    @rule()
    def exchange(self) -> None:
        """All that either side may send arrives at the other."""
        for host in (False, True, False, True):
            self.flush(host)
            self.deliver(not host, 1 << 30, True)

    @rule(host=sides)
    def flush_once(self, host: bool) -> None:
        """An owner whose transport has room for one buffer more."""
        wire, end = (self.to_guest, self.host) if host else (self.to_host, self.guest)
        for part in end.data_to_send():
            wire += part

    @rule(host=sides, count=st.sampled_from([1, 7, 16, 500, 5000, 1 << 30]), in_place=st.booleans())
    def deliver(self, host: bool, count: int, in_place: bool) -> None:
        wire = self.to_host if host else self.to_guest
        end: Connection = self.host if host else self.guest
        data = bytes(wire[:count])
        del wire[:count]
        if not in_place:
            end.receive_data(data)
        while in_place and data:
            room = end.receive_buffer()
            taken = min(len(room), len(data))
            room[:taken] = data[:taken]
            end.received(taken)
            data = data[taken:]
        self.read_events()

    @rule(host=sides, full=st.booleans())
    def pause_or_resume(self, host: bool, full: bool) -> None:
        end = self.host if host else self.guest
        if full:
            end.pause()
        else:
            end.resume()

    @rule(host=sides)
    def keepalive(self, host: bool) -> None:
        end: Connection = self.host if host else self.guest
        end._misses = 0  # a machine that delivers nothing for long is not a dead peer
        end.keepalive()

    def read_events(self) -> None:
        for event in self.host.events():
            if isinstance(event, CallOpened):
                assert event.call not in self.at_host and event.params == {"n": event.call - 1}
                self.at_host[event.call] = False
            elif isinstance(event, CallCancelled):
                assert event.call in self.cancelled
                self.at_host[event.call] = True
            else:
                assert isinstance(event, self.allowed), event
        for heard in self.guest.events():
            self.read_guest_event(heard)

    def read_guest_event(self, event: object) -> None:
        if isinstance(event, TokensReceived):
            column = event.logprobs or [None] * len(event.calls)
            for call, ids, text, data in zip(event.calls, event.token_ids, event.texts, column, strict=True):
                self.compare(call, ids)
                self.compare_logprobs(call, data or [None] * len(ids))
                assert self.sent_text[call].startswith(text, self.num_chars[call])
                self.num_chars[call] += len(text)
                self.items[call] += 1
            for call, parts in zip(event.calls, event.parts or [], strict=bool(event.parts)):
                self.got_parts[call] += parts or []
        elif isinstance(event, ItemReceived):
            self.compare(event.call, [event.value])
            self.items[event.call] += 1
        elif isinstance(event, DataReceived):
            self.compare(event.call, [bytes(event.data)])
            self.bytes[event.call].append(len(event.data))
        elif isinstance(event, ResultReceived | ErrorReceived):
            assert event.call in self.at_guest, "a call ended twice"
            self.at_guest.remove(event.call)
            self.got_end[event.call] = "result" if isinstance(event, ResultReceived) else "error"
            if event.call not in self.cancelled:
                assert self.num_got[event.call] == len(self.sent[event.call])
                assert self.num_chars[event.call] == len(self.sent_text[event.call])
                assert melt(self.got_parts[event.call]) == melt(self.sent_parts[event.call])
        else:
            assert isinstance(event, self.allowed), event

    def compare(self, call: int, got: list[Any]) -> None:
        """What a call receives goes on where it left off."""
        start = self.num_got[call]
        assert got == self.sent[call][start : start + len(got)]
        self.num_got[call] = start + len(got)

    def compare_logprobs(self, call: int, got: Sequence[bytes | None]) -> None:
        start = self.num_logprobs[call]
        assert got == self.sent_logprobs[call][start : start + len(got)]
        self.num_logprobs[call] = start + len(got)

    # -- what must hold at any time

    @invariant()
    def the_peer_was_never_sent_more_frames_than_it_takes(self) -> None:
        for end in (self.guest, self.host):
            assert end._writer.num_sent - end._writer.num_acked <= 8

    @invariant()
    def memory_is_bounded(self) -> None:
        for call, windows in self.windows.items():
            assert self.items[call] <= windows.items
            assert sum(self.bytes[call]) <= windows.bytes + MAX_PAYLOAD
        for end in (self.guest, self.host):
            assert len(end._reader.buffer.view) <= 4 * 65_536
            assert sum(map(len, end._writer._waiting)) <= 8 * (65_536 + 4096) + 4096

    @invariant()
    def what_can_be_sent_is_not_forgotten(self) -> None:
        for call, flow in self.host._answers.flows.items():
            assert call in self.host._answers.sendable or not flow.can_send()

    def mend(self) -> None:
        """Have the ends connected."""

    def teardown(self) -> None:
        self.guest.resume()
        self.host.resume()
        for _ in range(10_000):
            self.mend()
            self.to_guest += unsent(self.host)
            self.to_host += unsent(self.guest)
            if not (self.to_guest or self.to_host) and not self.at_host and not self.at_guest:
                break
            self.host.receive_data(self.to_host)
            self.guest.receive_data(self.to_guest)
            self.to_host.clear()
            self.to_guest.clear()
            self.read_events()
            for call in self.windows:
                while self.bytes[call]:
                    self.take(call - 1)
                self.take(call - 1)
            for _ in range(len(self.at_host)):
                self.end(0, True)
        assert self.got_end.keys() == self.windows.keys()
        assert self.got_end == self.said_end
        assert not self.guest.num_calls and not self.host.num_calls
        assert not self.guest.has_unsent and not self.host.has_unsent
        held = [part for flow in self.host._answers.flows.values() for part in flow.queue]
        assert not any(isinstance(part, Delta | Payload) for part in held)


PairMachine.TestCase.settings = settings(stateful_step_count=50)
TestPair = PairMachine.TestCase
