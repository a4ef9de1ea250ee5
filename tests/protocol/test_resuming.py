"""Connections whose transport is lost, or changes bytes: nothing is missing, and nothing comes twice."""

import itertools
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mlxbridge.errors import (
    AuthenticationError,
    BridgeError,
    Cancelled,
    ConnectionLost,
    Gone,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol import GuestConnection, HostConnection, Windows
from mlxbridge.protocol.events import (
    CallCancelled,
    CallOpened,
    Closed,
    Cut,
    ErrorReceived,
    PongReceived,
    Ready,
    ResumeAsked,
    Resumed,
    TokensReceived,
)
from mlxbridge.protocol.frames import MAGIC, Flag
from mlxbridge.protocol.handshake import CHECKSUM, RESUME, Resumption, Token
from mlxbridge.protocol.kept import KeptPool
from mlxbridge.protocol.limits import MAX_KEPT_BYTES
from mlxbridge.protocol.rows import NO_ROWS
from tests.helpers.wire import SECRET, make_guest, make_host, pump, unsent
from tests.protocol.test_pair import GUEST_LIMITS, HOST_LIMITS, PairMachine, picks, sides

RESUMPTION = Resumption(bytes(range(16)), bytes(range(32)), grace_ms=30_000)
BOTH = frozenset({CHECKSUM, RESUME})
IGNORABLE_HELLO = len(MAGIC) + 13, int(Flag.IGNORABLE)
"""The place of a flag that changes nothing on a type that is known, before there are checksums."""

_nonces = (number.to_bytes(32, "little") for number in itertools.count(1))


def guest_that_resumes(**options: Any) -> GuestConnection:
    return make_guest(**{"features": BOTH, **options})


def host_that_resumes(**options: Any) -> HostConnection:
    return make_host(**{"features": frozenset({CHECKSUM}), "resumption": RESUMPTION, **options})


def resumable_pair() -> tuple[GuestConnection, HostConnection]:
    guest, host = guest_that_resumes(), host_that_resumes()
    pump(guest, host)
    for end in (guest, host):
        assert [type(event) for event in end.events()] == [Ready]
    return guest, host


def cut(*ends: GuestConnection | HostConnection) -> None:
    """The transport is gone, with what was under way."""
    for end in ends:
        unsent(end)
        end.receive_eof()
        assert end.cut and end.closed and not unsent(end)
        (event,) = (event for event in end.events() if isinstance(event, Cut | Closed))
        assert isinstance(event, Cut)


def ask(guest: GuestConnection, **options: Any) -> tuple[HostConnection, ResumeAsked]:
    """A fresh connection to the host, up to the guest's claim."""
    guest.come_back(next(_nonces), lambda call: 700)
    fresh = host_that_resumes(nonce=next(_nonces), **options)
    pump(guest, fresh)
    (claim,) = fresh.events()
    assert isinstance(claim, ResumeAsked)
    return fresh, claim


def come_back(guest: GuestConnection, host: HostConnection) -> None:
    fresh, claim = ask(guest)
    assert (claim.link, claim.secret) == (RESUMPTION.link, RESUMPTION.secret)
    assert host.welcome_back(fresh, claim.received)


class ResumableMachine(PairMachine):
    """As its base, over transports that are cut and that change bytes."""

    allowed = (PongReceived, Cut, Resumed)

    def make_ends(self) -> tuple[GuestConnection, HostConnection]:
        return guest_that_resumes(limits=GUEST_LIMITS), host_that_resumes(limits=HOST_LIMITS)

    @precondition(lambda self: not self.guest.cut)
    @rule(host_notices=sides)
    def cut_off(self, host_notices: bool) -> None:
        self.to_guest.clear()
        self.to_host.clear()
        self.guest.receive_eof()
        if host_notices:
            self.host.receive_eof()
        self.read_events()

    @precondition(lambda self: self.guest.cut)
    @rule(is_in_vain=sides)
    def reconnect(self, is_in_vain: bool) -> None:
        """The guest comes back; in vain, if the host's answer is lost."""
        self.to_guest.clear()
        self.to_host.clear()
        self.read_events()
        self.guest.come_back(next(_nonces), lambda call: None)
        fresh = host_that_resumes(nonce=next(_nonces), limits=HOST_LIMITS)
        pump(self.guest, fresh)
        (claim,) = fresh.events()
        assert isinstance(claim, ResumeAsked)
        assert self.host.welcome_back(fresh, claim.received)
        if is_in_vain:
            unsent(self.host)
            self.guest.receive_eof()
        else:
            self.to_guest += unsent(self.host)
            self.deliver(False, len(self.to_guest), True)
            assert self.guest.ready
        self.read_events()

    @precondition(lambda self: self.to_guest or self.to_host)
    @rule(host=sides, pick=picks, bit=st.integers(0, 7))
    def change_a_bit(self, host: bool, pick: int, bit: int) -> None:
        wire = self.to_host if host else self.to_guest
        if wire:
            wire[pick * 31 % len(wire)] ^= 1 << bit

    def read_guest_event(self, event: object) -> None:
        if isinstance(event, ErrorReceived) and isinstance(event.error, Gone):
            assert event.call in self.had_payloads
            self.at_guest.remove(event.call)
            self.at_host.pop(event.call, None)
            self.got_end[event.call] = self.said_end[event.call] = "gone"
        else:
            super().read_guest_event(event)

    def compare(self, call: int, got: list[Any]) -> None:
        if call in self.had_payloads:  # what comes behind a payload that was lost is left out
            self.num_got[call] += len(got)
        else:
            super().compare(call, got)

    @property
    def had_payloads(self) -> set[int]:
        return {call for call, sent in self.sent.items() if any(isinstance(one, bytes) for one in sent)}

    def mend(self) -> None:
        if self.host.cut and not self.guest.cut:
            self.cut_off(host_notices=True)
        if self.guest.cut:
            self.reconnect(is_in_vain=False)


# A cut costs two handshakes, so fewer examples take as long as those of the base.
ResumableMachine.TestCase.settings = settings(
    max_examples=max(1, settings().max_examples // 6), stateful_step_count=40
)
TestResumable = ResumableMachine.TestCase


def test_guest_gets_what_it_missed_and_nothing_twice() -> None:
    guest, host = resumable_pair()
    call = guest.open_call("work", {})
    pump(guest, host)
    host.events()
    host.send_tokens([call], [[1]], ["one "])
    pump(guest, host)
    assert [type(event) for event in guest.events()] == [TokensReceived]
    host.send_tokens([call], [[2]], ["two "])
    cut(guest, host)
    host.send_tokens([call], [[3]], ["three "])
    host.finish(call, {})
    come_back(guest, host)
    pump(guest, host)
    assert [type(event) for event in host.events()] == [Resumed]
    tokens = [event.token_ids for event in guest.events() if isinstance(event, TokensReceived)]
    assert tokens == [[[2]], [[3]]]
    assert guest.num_calls == host.num_calls == 0


def test_call_that_had_not_arrived_is_sent_again_with_the_time_it_has_left() -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {"n": 1}, deadline_ms=1000)
    cut(guest, host)
    come_back(guest, host)
    pump(guest, host)
    assert host.events() == [Resumed(), CallOpened(1, "work", {"n": 1}, 700)]


def test_call_that_had_arrived_is_not_sent_again() -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {})
    pump(guest, host)
    host.events()
    cut(guest, host)
    come_back(guest, host)
    pump(guest, host)
    assert host.events() == [Resumed()]


def test_cancel_and_credit_are_said_again() -> None:
    guest, host = resumable_pair()
    calls = [guest.open_call("work", {}, windows=Windows(items=2, bytes=0)) for _ in range(2)]
    pump(guest, host)
    host.events()
    cut(guest, host)
    guest.cancel(calls[0])
    guest.grant(calls[1], items=9)
    come_back(guest, host)
    pump(guest, host)
    assert [type(event) for event in host.events()] == [Resumed, CallCancelled]
    assert host.items_granted(calls[1]) == 9


def test_payload_that_was_under_way_ends_its_call() -> None:
    guest, host = resumable_pair()
    call = guest.open_call("embed", {}, windows=Windows(bytes=1 << 20))
    other = guest.open_call("work", {})
    pump(guest, host)
    host.send_data(call, {}, bytes(100_000))
    host.finish(call, {})
    unsent(host)
    host.send_tokens([other], [[5]], ["five"])
    cut(guest, host)
    come_back(guest, host)
    pump(guest, host)
    events = guest.events()
    (error,) = (event for event in events if isinstance(event, ErrorReceived))
    assert error.call == call and isinstance(error.error, Gone) and error.error.retryable
    assert [event.token_ids for event in events if isinstance(event, TokensReceived) and event.calls] == [
        [[5]]
    ]


def test_host_that_knows_nothing_of_the_calls_says_that_they_are_gone() -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {})
    cut(guest, host)
    fresh, _ = ask(guest)
    fresh.close(Gone("this host has started anew"))
    guest.receive_data(unsent(fresh))
    (event,) = guest.events()
    assert isinstance(event, Closed) and isinstance(event.error, Gone)


@pytest.mark.parametrize(
    "error", [RemoteProtocolError("what?"), Unavailable("not now"), AuthenticationError("a wrong token")]
)
def test_guest_whose_return_is_refused_otherwise_may_try_again(error: BridgeError) -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {})
    cut(guest, host)
    fresh, _ = ask(guest)
    fresh.close(error)
    guest.receive_data(unsent(fresh))
    assert guest.events() == [Cut(ANY)] and guest.cut
    come_back(guest, host)
    pump(guest, host)
    assert guest.events() == [Resumed()]


def test_host_that_lets_the_guest_in_as_a_new_one_has_nothing_of_its_calls() -> None:
    guest, host = resumable_pair()
    guest.open_call("generate", {})
    pump(guest, host)
    cut(guest)
    guest.come_back(next(_nonces), lambda call: None)
    pump(guest, host_that_resumes(nonce=next(_nonces), resumption=None))
    (end,) = guest.events()
    assert isinstance(end, Closed) and isinstance(end.error, Gone) and not guest.cut


def test_connection_that_has_ended_does_not_go_on() -> None:
    guest, host = resumable_pair()
    guest.open_call("generate", {})
    pump(guest, host)
    host.close()
    cut(guest)
    fresh, claim = ask(guest)
    assert not host.welcome_back(fresh, claim.received) and host.closed and not host.cut


def test_claim_that_cannot_be_granted_leaves_a_living_connection_alone() -> None:
    guest, host = resumable_pair()
    guest.open_call("generate", {})
    pump(guest, host)
    host.events()
    fresh = host_that_resumes(nonce=next(_nonces))
    assert not host.welcome_back(fresh, 7)
    assert host.ready and not host.events()
    host.finish(1, {})
    pump(guest, host)
    assert guest.num_calls == 0


def test_claim_is_told_with_the_name_that_was_proved() -> None:
    token, tokens = Token("alice", SECRET), {"alice": SECRET}
    guest, host = guest_that_resumes(token=token), host_that_resumes(tokens=tokens)
    pump(guest, host)
    guest.events(), host.events()
    cut(guest, host)
    fresh, claim = ask(guest, tokens=tokens)
    assert claim.identity == "alice" and host.welcome_back(fresh, claim.received)
    cut(guest, host)
    guest._token = Token("alice", b"not the secret")
    guest.come_back(next(_nonces), lambda call: None)
    fresh = host_that_resumes(nonce=next(_nonces), tokens=tokens)
    pump(guest, fresh)
    assert not any(isinstance(event, ResumeAsked) for event in fresh.events())


def test_more_is_not_kept_than_a_bound_and_then_nobody_can_come_back() -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {}, windows=Windows(items=100))
    pump(guest, host)
    host.events()
    for _ in range(20):
        host.send_item(1, bytes(1 << 20))
        unsent(host)
        assert host.num_kept_bytes <= MAX_KEPT_BYTES
    cut(guest, host)
    fresh, claim = ask(guest)
    assert not host.welcome_back(fresh, claim.received)


def test_of_many_connections_the_one_that_keeps_most_gives_its_frames_up_past_a_common_bound() -> None:
    pool = KeptPool(max_bytes=5_000)
    pairs = [(guest_that_resumes(), host_that_resumes(kept_pool=pool)) for _ in range(3)]
    for guest, host in pairs:
        pump(guest, host)
        guest.open_call("work", {})
        pump(guest, host)
        host.events()
    (_, stalled), (_, other), (_, third) = pairs
    for _ in range(3):
        stalled.send_item(1, bytes(1_000))
    other.send_item(1, bytes(1_500))
    assert pool.num_bytes == stalled.num_kept_bytes + other.num_kept_bytes > 4_500
    third.send_item(1, bytes(1_000))
    assert stalled.num_kept_bytes == 0
    assert pool.num_bytes == other.num_kept_bytes + third.num_kept_bytes < 3_000
    stalled.send_item(1, b"after that")
    may_come_back = []
    for guest, host in pairs:
        cut(guest, host)
        fresh, claim = ask(guest)
        may_come_back.append(host.welcome_back(fresh, claim.received))
    assert may_come_back == [False, True, True]


def test_connection_that_keeps_more_than_all_may_is_still_of_use_to_a_peer_that_gets_everything() -> None:
    pool = KeptPool(max_bytes=1_000)
    guest, host = guest_that_resumes(), host_that_resumes(kept_pool=pool)
    pump(guest, host)
    guest.open_call("work", {})
    pump(guest, host)
    host.send_item(1, bytes(2_000))
    assert pool.num_bytes == 0
    pump(guest, host)
    guest.events(), host.events()
    cut(guest, host)
    come_back(guest, host)


@pytest.mark.parametrize("is_cut", [False, True])
def test_connections_that_end_leave_nothing_in_the_pool(is_cut: bool) -> None:
    pool = KeptPool(max_bytes=10_000)
    guest, host = guest_that_resumes(), host_that_resumes(kept_pool=pool)
    pump(guest, host)
    guest.open_call("work", {})
    pump(guest, host)
    host.send_item(1, bytes(2_000))
    guest.events(), host.events()
    if is_cut:
        cut(guest, host)
    assert pool.num_bytes > 2_000
    host.close()
    assert pool.num_bytes == 0 and not pool._members


def test_orderly_end_leaves_nothing_to_come_back_to() -> None:
    guest, host = resumable_pair()
    guest.open_call("work", {})
    guest.leave(Cancelled("enough"))
    assert guest.closed and guest.lingering, "the host may be writing, and read this later"
    host.receive_data(unsent(guest))
    assert isinstance(host.events()[-1], Closed) and not host.cut
    assert isinstance(guest.events()[-1], Closed) and not guest.cut


def test_ends_that_did_not_agree_to_it_are_not_cut() -> None:
    for guest, host in [
        (make_guest(), host_that_resumes()),
        (guest_that_resumes(), make_host(features={CHECKSUM})),
    ]:
        pump(guest, host)
        for end in (guest, host):
            end.receive_eof()
            *_, event = end.events()
            assert isinstance(event, Closed) and isinstance(event.error, ConnectionLost)


def test_guest_that_needs_checksums_refuses_a_host_without() -> None:
    guest, host = guest_that_resumes(), make_host()
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, Closed) and isinstance(event.error, RemoteProtocolError)


@pytest.mark.parametrize("features", [frozenset({CHECKSUM}), BOTH], ids=["for good", "for now"])
def test_any_changed_byte_is_noticed(features: frozenset[str]) -> None:
    """Of the host's whole answer, from its HELLO on: what the guest was told is right, or it was told nothing."""
    said = answer(features)
    for place in range(len(said)):
        for change in (0x01, 0x80, 0xFF):
            guest = guest_that_resumes(features=features)
            unsent(guest)
            wrong = bytearray(said)
            wrong[place] ^= change
            guest.receive_data(wrong)
            told = [event for event in guest.events() if isinstance(event, TokensReceived)]
            assert not told or (place, change) == IGNORABLE_HELLO


def answer(features: frozenset[str]) -> bytes:
    """What a host says to a guest, up to a frame of tokens without rows."""
    guest, host = guest_that_resumes(features=features), host_that_resumes()
    host.receive_data(unsent(guest))
    said = unsent(host)
    host._writer.put(NO_ROWS)
    return said + unsent(host)
