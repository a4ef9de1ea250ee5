"""The end that opens calls: what it sends, what it believes, what it gives back."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import BridgeError, LimitExceeded, LocalProtocolError, RemoteProtocolError, UsageError
from mlxbridge.protocol import GuestConnection, HostConnection, Limits, Windows
from mlxbridge.protocol.codec import decode
from mlxbridge.protocol.events import (
    CallCancelled,
    CallOpened,
    Closed,
    DataReceived,
    ErrorReceived,
    ItemReceived,
    PieceReceived,
    ResultReceived,
)
from mlxbridge.protocol.frames import MAGIC, FrameType
from mlxbridge.protocol.limits import MAX_CALL_ID
from tests.helpers.wire import (
    feed,
    frame,
    frames_in,
    kinds_in,
    make_guest,
    make_pair,
    open_calls,
    plain_events,
    pump,
    unsent,
)


def refused(guest: GuestConnection) -> BridgeError:
    *_, event = guest.events()
    assert isinstance(event, Closed) and event.error is not None
    return event.error


# -- opening calls


def test_call_carries_its_windows_and_deadline() -> None:
    guest, host = make_pair(guest={"windows": Windows(items=7, bytes=70)})
    assert guest.open_call("a", {"x": 1}, deadline_ms=0) == 1
    assert guest.open_call("b", {}, windows=Windows(items=8, bytes=80)) == 2
    heads = [decode(head) for _, _, _, head, _ in frames_in(unsent(guest))]
    assert heads == [
        {"method": "a", "params": {"x": 1}, "items": 7, "bytes": 70, "deadline_ms": 0},
        {"method": "b", "params": {}, "items": 8, "bytes": 80},
    ]
    assert guest.num_calls == 2


class _Params(dict[str, Any]):
    pass


@pytest.mark.parametrize(
    "params", [_Params(a=1), {"a": (1, 2)}, {"a": bytearray(b"x")}, {"a": memoryview(b"x")}]
)
def test_params_may_be_anything_like_a_map(params: dict[str, Any]) -> None:
    guest, host = make_pair()
    guest.open_call("m", params)
    pump(guest, host)
    (event,) = host.events()
    assert isinstance(event, CallOpened)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"a": object()}, id="an object"),
        pytest.param({"a": {1, 2}}, id="a set"),
        pytest.param({"a": 1 << 64}, id="a number over 64 bits"),
        pytest.param({"a": "\udce9"}, id="a lone surrogate"),
        pytest.param({"logit_bias": {17: 1.0}}, id="numbers as keys"),
        pytest.param({"a": [0] * 65_537}, id="a list over 65,536"),
        pytest.param({"a": np.float32(1)}, id="a numpy number"),
    ],
)
def test_params_that_cannot_be_sent_leave_the_connection_usable(params: dict[str, Any]) -> None:
    guest, host = make_pair()
    (field,) = params
    with pytest.raises(UsageError, match=f"^{field}: cannot be sent") as caught:
        guest.open_call("m", {"before": "a", **params})
    assert caught.value.details == {"field": field}
    assert guest.num_calls == 0 and unsent(guest) == b""
    open_calls(guest, host)


@pytest.mark.parametrize(("method", "params"), [("\udce9", {}), ("m", {1: 2}), ("m", {"\udce9": 2})])
def test_names_that_cannot_be_sent_are_refused(method: str, params: dict[Any, Any]) -> None:
    guest, host = make_pair()
    with pytest.raises(UsageError, match="the arguments cannot be sent"):
        guest.open_call(method, params)
    open_calls(guest, host)


@pytest.mark.parametrize("deadline", [-1, 1.5, True, "1", 1 << 63])
def test_deadline_that_no_host_takes_is_refused_here(deadline: Any) -> None:
    guest, host = make_pair()
    with pytest.raises(UsageError, match="deadline_ms"):
        guest.open_call("m", {}, deadline_ms=deadline)
    open_calls(guest, host)


def test_params_over_the_hosts_limit_are_refused_here() -> None:
    guest, host = make_pair(host={"limits": Limits(max_head_bytes=65_536)})
    with pytest.raises(LimitExceeded, match="the host accepts 65536"):
        guest.open_call("m", {"prompt": "x" * 65_536})
    open_calls(guest, host)


def test_no_call_before_the_handshake() -> None:
    guest = make_guest()
    assert not guest.can_open
    with pytest.raises(LocalProtocolError, match="waiting for HELLO"):
        guest.open_call("m", {})


def test_no_call_over_the_hosts_number() -> None:
    guest, host = make_pair(host={"limits": Limits(max_calls=2)})
    first, _ = open_calls(guest, host, 2)
    with pytest.raises(LocalProtocolError, match="2 calls are open"):
        guest.open_call("m", {})
    host.finish(first, {})
    pump(guest, host)
    assert guest.can_open and guest.open_call("m", {}) == 3


def test_no_call_while_the_host_goes_away() -> None:
    guest, host = make_pair()
    open_calls(guest, host)
    host.go_away("restarting", 1000)
    pump(guest, host)
    with pytest.raises(LocalProtocolError, match="going away"):
        guest.open_call("m", {})
    host.finish(1, {})
    pump(guest, host)
    assert isinstance(guest.events()[-1], ResultReceived), "open calls go on"


def test_no_call_when_the_numbers_are_used_up() -> None:
    guest, host = make_pair()
    guest._last_call = MAX_CALL_ID - 1
    assert guest.open_call("m", {}) == MAX_CALL_ID
    pump(guest, host)
    assert isinstance(host.events()[0], CallOpened)
    with pytest.raises(LocalProtocolError, match="used up"):
        guest.open_call("m", {})


# -- the host's window


def full_window() -> tuple[GuestConnection, HostConnection, list[int]]:
    """Eight CALLs are under way; two more wait."""
    guest, host = make_pair(host={"limits": Limits(max_unacked_frames=8)})
    calls = [guest.open_call("m", {"n": n}) for n in range(10)]
    return guest, host, calls


def test_calls_wait_for_the_host_to_keep_up_and_keep_their_order() -> None:
    guest, host, calls = full_window()
    assert kinds_in(unsent(guest)) == ["CALL"] * 8 and guest.has_unsent
    host.receive_data(frame(FrameType.ACK, 0, 0))  # nothing changes by itself
    guest._writer.num_acked = 1
    late = guest.open_call("m", {"n": 10})
    assert [call for _, call, *_ in frames_in(unsent(guest))] == calls[8:9]
    guest._writer.num_acked = 8
    assert [call for _, call, *_ in frames_in(unsent(guest))] == [calls[9], late]
    assert not guest.has_unsent


def test_cancel_of_a_waiting_call_stays_behind_it_and_inside_the_window() -> None:
    guest, host, calls = full_window()
    guest.cancel(calls[8])
    guest.cancel(calls[0])
    said = unsent(guest)
    assert kinds_in(said) == ["CALL"] * 8 + ["CANCEL"]
    host.receive_data(said)
    pump(guest, host)
    events = host.events()
    assert [type(event) for event in events].count(CallOpened) == 10
    place = events.index(CallCancelled(calls[8]))
    assert isinstance(events[place - 1], CallOpened) and events[place - 1] == events[-3]


def test_host_cannot_end_a_call_that_it_has_not_seen() -> None:
    for kind, head in ((FrameType.RESULT, {}), (FrameType.ERROR, {}), (FrameType.ITEM, 1)):
        guest, _, calls = full_window()
        guest.receive_data(frame(kind, calls[9], head))
        assert isinstance(refused(guest), RemoteProtocolError)
    guest, _, calls = full_window()
    guest.receive_data(frame(FrameType.TOKENS, 0, [[calls[9]], [[1]], ["a"]]))
    assert isinstance(refused(guest), RemoteProtocolError)


def test_nothing_leaves_while_the_transport_is_full() -> None:
    guest, host = make_pair()
    guest.pause()
    call = guest.open_call("m", {})
    assert unsent(guest) == b"" and guest.has_unsent
    guest.resume()
    assert [number for _, number, *_ in frames_in(unsent(guest))] == [call]


# -- cancelling


def test_cancel_is_said_once_and_is_harmless_later() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host)
    guest.cancel(call)
    guest.cancel(call)
    guest.cancel(99)
    assert kinds_in(unsent(guest)) == ["CANCEL"]
    host.finish(call, {})
    pump(guest, host)
    guest.cancel(call)
    assert unsent(guest) == b"" and guest.num_calls == 0


def test_cancelled_call_gives_no_more_credit() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host, windows=Windows(items=2))
    host.send_tokens([call, call], [[1], [2]], ["", ""])
    pump(guest, host)
    guest.consume(call, items=1)
    guest.cancel(call)
    guest.consume(call, items=1)
    assert kinds_in(unsent(guest)) == ["CANCEL"]


@pytest.mark.parametrize("well", [True, False])
@pytest.mark.parametrize("ended_before", [True, False])
def test_cancelled_call_may_end_inside_a_payload(well: bool, ended_before: bool) -> None:
    guest, host = make_pair(guest={"limits": Limits(max_piece_bytes=4096), "windows": Windows(bytes=4096)})
    (call,) = open_calls(guest, host)

    def end() -> None:
        if well:
            host.finish(call, {"finish_reason": "cancelled"})
        else:
            host.fail(call, LimitExceeded("x"))

    host.send_data(call, {}, bytes(10_000))
    if ended_before:
        end()
    guest.receive_data(unsent(host))
    guest.cancel(call)
    host.receive_data(unsent(guest))
    if not ended_before:
        assert host.events() == [CallCancelled(call)]
        end()
    guest.receive_data(unsent(host))
    (event,) = guest.events()
    assert isinstance(event, ResultReceived if well else ErrorReceived)
    assert guest.ready and guest.num_calls == 0 and host.num_calls == 0
    assert not guest._reader.buffer.filling


def test_error_inside_a_payload_frees_it() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host)
    guest.receive_data(frame(FrameType.DATA, call, {"nbytes": 5 << 20}, bytes(1000), flags=1))
    payload = guest._calls[call].payload
    assert payload is not None
    guest.receive_data(frame(FrameType.ERROR, call, {"code": 27, "message": "the worker died"}))
    (event,) = guest.events()
    assert isinstance(event, ErrorReceived)
    payload.release()  # raises if anything still holds a view of it
    open_calls(guest, host)


# -- payloads


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 30])
def test_payload_arrives_whole(size: int, chunk: int) -> None:
    limits = Limits(max_piece_bytes=4096)
    guest, host = make_pair(guest={"limits": limits, "windows": Windows(bytes=1 << 20)})
    (call,) = open_calls(guest, host)
    body = bytes(n * 7 % 251 for n in range(size))
    host.send_data(call, {"dtype": "uint8"}, body)
    host.finish(call, {})
    events = feed(guest, unsent(host), chunk)
    assert events == [
        {
            "event": "DataReceived",
            "call": call,
            "meta": {"dtype": "uint8", "nbytes": size},
            "data": {"hex": body.hex()},
        },
        {"event": "ResultReceived", "call": call, "result": {}},
    ]


def test_payloads_of_two_calls_take_turns_and_tokens_come_between() -> None:
    limits = Limits(max_piece_bytes=4096)
    guest, host = make_pair(guest={"limits": limits})
    one, two, three = open_calls(guest, host, 3)
    host.send_data(one, {}, b"a" * 9000)
    host.send_data(two, {}, b"b" * 9000)
    said = b""
    for number in range(7):
        host.send_tokens([three], [[number]], [""])
        said += b"".join(host.data_to_send())
    order = [(kind.name, call) for kind, call, *_ in frames_in(said) if kind is FrameType.DATA]
    assert [call for _, call in order] == [one, two, one, two, one, two]
    assert kinds_in(said) == ["TOKENS", "DATA"] * 6 + ["TOKENS"]
    got = [event for event in plain_events_of(guest, said) if event["event"] == "DataReceived"]
    assert [event["data"]["hex"] for event in got] == [(b"a" * 9000).hex(), (b"b" * 9000).hex()]


def plain_events_of(guest: GuestConnection, data: bytes) -> list[dict[str, Any]]:
    guest.receive_data(data)
    return plain_events(guest.events())


@pytest.mark.parametrize("window", [1, 2, 100, 4096, 5000, 8192])
def test_payload_larger_than_the_window_does_not_stall(window: int) -> None:
    guest, host = make_pair(guest={"windows": Windows(bytes=window)})
    (call,) = open_calls(guest, host)
    body = bytes(range(250)) * (window // 20 + 2)
    host.send_data(call, {}, body)
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, DataReceived) and event.data == body


def test_application_that_takes_nothing_bounds_what_comes() -> None:
    """Once, each payload in progress was granted all it needed, whatever lay unread before it."""
    guest, host = make_pair(guest={"windows": Windows(bytes=10_000)})
    (call,) = open_calls(guest, host)
    for _ in range(50):
        host.send_data(call, {}, bytes(100_000))
    pump(guest, host)
    first = guest.events()
    assert 1 <= len(first) <= 2
    for _ in range(49):
        guest.consume(call, num_bytes=100_000)
        pump(guest, host)
    assert len(first) + len(guest.events()) == 50


@pytest.mark.parametrize("size", [0, 8, 100_000])
@pytest.mark.parametrize(
    "allocate", [bytearray, lambda size: np.empty(size, np.uint8), lambda size: memoryview(bytearray(size))]
)
def test_payload_lands_in_memory_of_the_applications_choice(
    size: int, allocate: Callable[[int], Any]
) -> None:
    guest, host = make_pair(guest={"allocate": allocate})
    (call,) = open_calls(guest, host)
    array = np.arange(size // 4, dtype=np.float32)
    host.send_data(call, {}, array.data)
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, DataReceived)
    assert np.array_equal(np.frombuffer(event.data, np.float32), array)


@pytest.mark.parametrize("read_bytes", [1, 7, 1 << 20])
def test_pieces_come_one_by_one_and_their_credit_when_they_are_consumed(read_bytes: int) -> None:
    limits = Limits(max_piece_bytes=4096)
    guest, host = make_pair(guest={"limits": limits, "windows": Windows(bytes=8192), "piecewise": True})
    (call,) = open_calls(guest, host)
    body = bytes(range(250)) * 80
    host.send_data(call, {"dtype": "uint8"}, body)
    host.send_data(call, {}, b"")
    host.finish(call, {})

    def read() -> list[Any]:
        said = unsent(host)
        for start in range(0, len(said), read_bytes):
            into = guest.receive_buffer()  # as a driver reads, which takes a header with the piece before it
            data = said[start : start + read_bytes]
            while data:
                count = min(len(data), len(into))
                into[:count] = data[:count]
                guest.received(count)
                data, into = data[count:], guest.receive_buffer()
        return guest.events()

    pieces = read()
    assert [len(piece.data) for piece in pieces] == [4096, 4096]
    assert pieces[0].meta == {"dtype": "uint8", "nbytes": 20_000} and pieces[1].meta is None
    assert unsent(guest) == b""  # nothing has been consumed
    for piece in pieces:
        if isinstance(piece, PieceReceived):
            guest.consume(call, num_bytes=len(piece.data))
            host.receive_data(unsent(guest))
            pieces += read()
    *pieces, empty, end = pieces
    assert b"".join(piece.data for piece in pieces) == body
    assert empty == PieceReceived(call, {"nbytes": 0}, memoryview(b"")) and end == ResultReceived(call, {})


def test_payload_for_which_there_is_no_memory_ends_the_connection() -> None:
    def refuse(size: int) -> Any:
        raise MemoryError

    guest, host = make_pair(guest={"allocate": refuse})
    (call,) = open_calls(guest, host)
    host.send_data(call, {}, b"x")
    guest.receive_data(unsent(host))
    assert isinstance(refused(guest), LimitExceeded)


def test_memory_is_not_taken_for_a_payload_over_the_limit() -> None:
    guest, host = make_pair(guest={"limits": Limits(max_payload_bytes=1000)})
    (call,) = open_calls(guest, host)
    tracemalloc.start()
    guest.receive_data(frame(FrameType.DATA, call, {"nbytes": 1 << 40}, b"x", flags=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(refused(guest), LimitExceeded) and peak < 1 << 20


# -- items


def test_item_may_be_any_value() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host)
    values = [None, True, 0, 1.5, "x", b"x", [1], {"a": 1}]
    for value in values:
        host.send_item(call, value)
    pump(guest, host)
    assert guest.events() == [ItemReceived(call, value) for value in values]


def test_credit_is_given_back_by_half_windows_and_merged() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host, windows=Windows(items=4, bytes=8))
    host.send_tokens([call] * 4, [[1]] * 4, [""] * 4)
    host.send_data(call, {}, bytes(8))
    pump(guest, host)
    guest.consume(call, items=1)
    assert unsent(guest) == b""
    guest.consume(call, items=1)
    guest.consume(call, items=2, num_bytes=8)
    guest.consume(99, items=1)
    assert [(kind, decode(head)) for kind, _, _, head, _ in frames_in(unsent(guest))] == [
        (FrameType.CREDIT, [8, 16])
    ]


def test_credit_that_is_passed_on_goes_out_at_once_and_never_falls() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host, windows=Windows(items=4))
    assert host.items_granted(call) == 4
    for items in (5, 3, 5):
        guest.grant(call, items=items)
        pump(guest, host)
        assert host.items_granted(call) == 5
    for number in range(6):
        host.send_item(call, number)
    pump(guest, host)
    assert len(guest.events()) == 5
    guest.grant(call, items=6)
    pump(guest, host)
    assert len(guest.events()) == 1
    guest.grant(99, items=6)
    guest.cancel(call)
    guest.grant(call, items=9)
    pump(guest, host)
    assert host.items_granted(call) == 0, "nothing more is wanted"


def test_credit_that_is_due_is_dropped_with_its_call() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host, windows=Windows(items=1))
    host.send_item(call, 1)
    host.finish(call, {})
    guest.receive_data(unsent(host))
    guest.consume(call, items=1)
    assert unsent(guest) == b""


def test_closed_connection_lets_go_of_payloads_and_calls() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host)
    guest.receive_data(frame(FrameType.DATA, call, {"nbytes": 5 << 20}, bytes(1000), flags=1)[:500])
    payload = guest._calls[call].payload
    assert payload is not None
    guest.receive_eof()
    payload.release()
    assert guest.num_calls == 0 and not guest.has_unsent
    guest.cancel(call)
    guest.consume(call, items=1000)
    assert unsent(guest) == b""


def test_guest_says_the_magic_once() -> None:
    assert unsent(make_guest()).count(MAGIC) == 1
