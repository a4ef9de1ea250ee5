"""Both ends: hostile bytes, control frames, keepalive, pausing, the end."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    Overloaded,
    RemoteError,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol import Limits
from mlxbridge.protocol.codec import decode
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.error_head import read_error
from mlxbridge.protocol.events import Closed, GoawayReceived, PongReceived
from mlxbridge.protocol.frames import MAGIC, FrameType
from tests.helpers.wire import (
    feed,
    frame,
    frames_in,
    kinds_in,
    make_guest,
    make_host,
    make_pair,
    open_calls,
    pack,
    plain_events,
    pump,
    raw,
    unsent,
)
from tests.protocol.vector_ends import end_in_state

ENDS = [
    ("guest", "hello"),
    ("host", "hello"),
    ("host", "auth"),
    ("guest", "ready"),
    ("guest", "open"),
    ("host", "open"),
]
OPEN = [("guest", "open"), ("host", "open")]

odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        4,
        -1,
        1 << 31,
        1 << 63,
        (1 << 64) - 1,
        1.5,
        float("nan"),
        "",
        "x",
        b"",
        b"x",
        [],
        {},
    ]
)
heads = st.recursive(
    odd,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "method",
                    "params",
                    "items",
                    "bytes",
                    "deadline_ms",
                    "nbytes",
                    "code",
                    "name",
                    "message",
                    "retryable",
                    "retry_after_ms",
                    "details",
                    "drain_ms",
                    "versions",
                    "version",
                    "software",
                    "features",
                    "limits",
                    "nonce",
                    "auth",
                    "identity",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
frames = st.builds(
    raw,
    st.sampled_from([*map(int, FrameType), 0, 99, 255]),
    st.sampled_from([0, 1, 2, 3, 4, 1 << 31]),
    heads.map(pack)
    | st.just(b"")
    | st.binary(max_size=20)
    | st.integers(1, 2000).map(lambda n: b"\x91" * n + b"\xc0"),
    st.binary(max_size=70),
    flags=st.sampled_from([0, 0, 0, 0, 1, 0x80, 0x81, 2, 255]),
    reserved=st.sampled_from([0, 0, 0, 0, 1]),
    length=st.none() | st.none() | st.integers(0, 0xFFFF_FFFF) | st.integers(0, 100),
    head_length=st.none() | st.none() | st.integers(0, 0xFFFF_FFFF) | st.integers(0, 100),
)
calls = st.sampled_from([1, 2, 3, 3, 4])
ids = st.lists(st.integers(0, 1 << 32), max_size=3)
rows = st.lists(st.tuples(calls, ids, st.text(max_size=3)), max_size=4).map(
    lambda rows: [[row[column] for row in rows] for column in range(3)]
)
good = st.one_of(
    st.builds(frame, st.just(FrameType.TOKENS), st.just(0), rows),
    st.builds(frame, st.just(FrameType.ITEM), calls, odd),
    st.builds(frame, st.sampled_from([FrameType.RESULT, FrameType.ERROR]), calls, st.just({"code": 25})),
    st.builds(frame, st.just(FrameType.CALL), st.integers(1, 9), st.just({"method": "m", "items": 3})),
    st.builds(frame, st.just(FrameType.CANCEL), calls),
    st.builds(frame, st.just(FrameType.CREDIT), calls, st.lists(st.integers(0, 600), min_size=2, max_size=3)),
    st.builds(frame, st.just(FrameType.ACK), st.just(0), st.integers(0, 4)),
    st.builds(
        frame,
        st.sampled_from([FrameType.PING, FrameType.PONG]),
        st.just(0),
        st.none(),
        st.binary(max_size=64),
    ),
    st.builds(frame, st.just(FrameType.GOAWAY), st.just(0), st.just({"code": 26})),
    st.builds(frame, st.just(99), calls, odd, st.binary(max_size=99), flags=st.just(0x80)),
    st.builds(
        lambda call, data: frame(FrameType.DATA, call, {"nbytes": len(data)}, data),
        calls,
        st.binary(max_size=20),
    ),
    st.builds(
        lambda call, data, cut: (
            frame(FrameType.DATA, call, {"nbytes": len(data)}, data[:cut], flags=1)
            + frame(FrameType.PING)
            + frame(FrameType.DATA, call, None, data[cut:])
        ),
        calls,
        st.binary(min_size=2, max_size=200),
        st.integers(1, 1),
    ),
)
garbage = st.tuples(
    st.sampled_from([b"", MAGIC]),
    st.lists(good, max_size=12),
    st.lists(frames | st.binary(max_size=60), max_size=4),
).map(lambda parts: parts[0] + b"".join(parts[1]) + b"".join(parts[2]))
sizes = st.sampled_from([1, 2, 3, 5, 16, 17, 100])


@pytest.mark.parametrize(("role", "state"), ENDS)
@given(data=garbage, size=sizes)
def test_any_bytes_give_events_and_last_words_never_an_exception(
    role: str, state: str, data: bytes, size: int
) -> None:
    end, again = end_in_state(role, state), end_in_state(role, state)
    unsent(end)
    unsent(again)
    events = feed(end, data, 1 << 30)
    assert [event["event"] for event in events].count("Closed") == int(end.closed)
    said = kinds_in(unsent(end))
    if end.closed:
        assert events[-1]["event"] == "Closed" and not end.has_unsent
        assert feed(end, data, 7) == [] and unsent(end) == b""
    assert repr(feed(again, data, size)) == repr(events)
    assert end.closed is again.closed and ("GOAWAY" in said) is ("GOAWAY" in kinds_in(unsent(again)))


@pytest.mark.parametrize(("role", "state"), ENDS)
@given(data=garbage)
def test_memory_is_bounded_by_what_arrived(role: str, state: str, data: bytes) -> None:
    end = end_in_state(role, state)
    end.receive_data(data)
    assert len(end._reader.buffer.view) <= 65_536 + 2 * len(data)
    assert sum(map(len, end._writer._waiting)) <= 2000 + 100 * len(data)


@pytest.mark.parametrize(("role", "state"), ENDS)
def test_peer_that_goes_at_any_moment_gives_connection_lost(role: str, state: str) -> None:
    end = end_in_state(role, state)
    end.receive_data(b"MLX")
    end.receive_eof()
    end.receive_eof()
    (event,) = end.events()
    assert isinstance(event, Closed) and isinstance(event.error, ConnectionLost)
    assert end.closed and not end.ready and not end.handshaking


@pytest.mark.parametrize(("role", "state"), ENDS)
def test_goaway_in_any_state_ends_the_connection_with_its_error(role: str, state: str) -> None:
    end = end_in_state(role, state)
    magic = MAGIC if state == "hello" else b""
    head = {"code": 25, "name": "Overloaded", "message": "full", "retryable": True, "retry_after_ms": 1500}
    end.receive_data(magic + frame(FrameType.GOAWAY, 0, head))
    (event,) = end.events()
    assert isinstance(event, Closed) and isinstance(event.error, Overloaded)
    assert event.error.retry_after == 1.5 and event.error.retryable
    assert "GOAWAY" not in kinds_in(unsent(end)), "it is not answered"


@pytest.mark.parametrize(("role", "state"), ENDS)
def test_unavailable_drains_an_open_connection_and_ends_a_handshake(role: str, state: str) -> None:
    end = end_in_state(role, state)
    magic = MAGIC if state == "hello" else b""
    end.receive_data(magic + frame(FrameType.GOAWAY, 0, {"code": 26, "message": "later", "drain_ms": 500}))
    (event,) = end.events()
    assert end.draining
    if state == "open":
        assert isinstance(event, GoawayReceived) and event.drain_ms == 500 and not end.closed
    else:
        assert isinstance(event, Closed) and isinstance(event.error, Unavailable)


@pytest.mark.parametrize("drain_ms", [None, -5, 1.5, True, "1", [1]])
def test_drain_time_of_a_wrong_shape_is_none_at_all(drain_ms: Any) -> None:
    end = end_in_state("guest", "open")
    end.receive_data(frame(FrameType.GOAWAY, 0, {"code": 26, "drain_ms": drain_ms}))
    (event,) = end.events()
    assert isinstance(event, GoawayReceived) and event.drain_ms == 0


def deep_list() -> Any:
    return decode(b"\x91" * 1000 + b"\xc0")


@pytest.mark.parametrize(
    ("head", "kind", "retry_after"),
    [
        ({}, RemoteError, None),
        ({"code": 999, "name": "Melted"}, RemoteError, None),
        ({"code": True, "message": 3}, RemoteError, None),
        ({"code": -1}, RemoteError, None),
        ({"code": 0}, RemoteError, None),
        ({"code": 17, "details": [1]}, DeadlineExceeded, None),
        ({"code": 25, "retry_after_ms": -1000}, Overloaded, None),
        ({"code": 25, "retry_after_ms": True}, Overloaded, None),
        ({"code": 25, "retry_after_ms": 1.5}, Overloaded, None),
        ({"code": 25, "retry_after_ms": 1 << 63}, Overloaded, (1 << 63) / 1000),
        ({"code": deep_list(), "name": deep_list(), "details": {"a": deep_list()}}, RemoteError, None),
    ],
)
def test_error_of_any_shape_is_read(
    head: dict[str, Any], kind: type[BridgeError], retry_after: float | None
) -> None:
    error = read_error(head)
    assert type(error) is kind and error.retry_after == retry_after


@pytest.mark.parametrize(("role", "state"), OPEN)
@pytest.mark.parametrize(
    "error",
    [
        InternalError("no such file: caf\udce9"),
        InternalError("x" * 100_000),
        InternalError("\ud800" * 100_000),
        InternalError("x", details={"a": object()}),
        InternalError("x", details={"a": "y" * 100_000}),
        Overloaded("x", retry_after=float("inf")),
        Overloaded("x", retry_after=float("nan")),
        Overloaded("x", retry_after=1e300),
        ConnectionLost("it has no code of its own"),
    ],
)
def test_reason_of_a_close_always_reaches_the_peer(role: str, state: str, error: BridgeError) -> None:
    end = end_in_state(role, state)
    unsent(end)
    end.close(error)
    ((kind, _, _, head, _),) = frames_in(unsent(end))
    told = read_error(decode(head))
    assert kind is FrameType.GOAWAY and len(head) <= 16_384
    assert type(told) is (InternalError if not error.code else type(error)) and told.message


@pytest.mark.parametrize(("role", "state"), ENDS)
def test_connection_lingers_only_behind_last_words(role: str, state: str) -> None:
    refused, closed, told, gone = (end_in_state(role, state) for _ in range(4))
    refused.close(InternalError("x"))
    closed.close()
    told.receive_data((MAGIC if state == "hello" else b"") + frame(FrameType.GOAWAY, 0, {"code": 1}))
    gone.receive_eof()
    assert [end.lingering for end in (refused, closed, told, gone)] == [True, False, False, False]
    assert all(end.closed for end in (refused, closed, told, gone))


@pytest.mark.parametrize(("role", "state"), OPEN)
def test_close_without_a_reason_says_nothing(role: str, state: str) -> None:
    end = end_in_state(role, state)
    unsent(end)
    end.close()
    end.close(InternalError("too late"))
    assert end.events() == [Closed(None)] and unsent(end) == b""


@pytest.mark.parametrize(("role", "state"), ENDS)
def test_last_words_leave_though_the_transport_is_full(role: str, state: str) -> None:
    end = end_in_state(role, state)
    unsent(end)
    end.pause()
    end.receive_data(b"GET / HTTP/1.1\r\n\r\n" * 10)
    assert end.closed
    assert kinds_in(unsent(end))[-1] == "GOAWAY"


@pytest.mark.parametrize(("role", "state"), OPEN)
def test_closed_connection_holds_nothing_and_takes_nothing(role: str, state: str) -> None:
    end = end_in_state(role, state)
    end.close()
    unsent(end)
    room = end.receive_buffer()
    room[:4] = b"abcd"
    end.received(4)
    end.receive_data(b"abcd" * 100_000)
    end.keepalive()
    assert end.events() == [Closed(None)] and len(end._reader.buffer.view) == 65_536
    with pytest.raises(LocalProtocolError):
        end.ping()


def test_nonce_must_have_its_length() -> None:
    for make in (make_guest, make_host):
        with pytest.raises(LocalProtocolError):
            make(nonce=bytes(31))


# -- frames that are skipped


@pytest.mark.parametrize(("role", "state"), OPEN)
@pytest.mark.parametrize("call", [0, 1, 99])
@pytest.mark.parametrize("head", [b"", pack({"a": 1}), b"\xc1 is not msgpack"])
@pytest.mark.parametrize("payload", [b"", bytes(70_000)])
@pytest.mark.parametrize("number", [0, 8, 19, 99, 255])
def test_unknown_frame_is_skipped_if_it_says_so(
    role: str, state: str, call: int, head: bytes, payload: bytes, number: int
) -> None:
    end = end_in_state(role, state)
    unsent(end)
    end.receive_data(raw(number, call, head, payload, flags=0x80) + frame(FrameType.PING, 0, None, b"!"))
    assert end.events() == [] and kinds_in(unsent(end)) == ["PONG"]


@pytest.mark.parametrize(("role", "state"), OPEN)
def test_known_frame_may_be_marked_ignorable(role: str, state: str) -> None:
    end = end_in_state(role, state)
    unsent(end)
    end.receive_data(frame(FrameType.PING, 0, None, b"!", flags=0x80))
    assert kinds_in(unsent(end)) == ["PONG"]


# -- PING


def test_ping_comes_back() -> None:
    guest, host = make_pair()
    guest.ping(b"a")
    pump(guest, host)
    assert guest.events() == [PongReceived(b"a")] and host.events() == []


def test_flood_of_pings_costs_one_pong() -> None:
    guest, host = make_pair()
    host.pause()
    for number in range(10_000):
        host.receive_data(frame(FrameType.PING, 0, None, number.to_bytes(4, "little") * 16))
    assert host.has_unsent and not host._writer._waiting
    host.resume()
    assert list(frames_in(unsent(host))) == [(FrameType.PONG, 0, 0, b"", (9999).to_bytes(4, "little") * 16)]


def test_ping_body_is_bounded() -> None:
    guest, _ = make_pair()
    guest.ping(bytes(64))
    with pytest.raises(LocalProtocolError):
        guest.ping(bytes(65))


def test_ping_before_the_handshake_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="waiting for HELLO"):
        make_guest().ping()


# -- keepalive


def test_silent_peer_is_pinged_twice_and_given_up() -> None:
    guest, host = make_pair()
    unsent(guest)
    said = []
    for _ in range(4):
        guest.keepalive()
        said.append(kinds_in(unsent(guest)))
    assert said == [[], ["PING"], ["PING"], ["GOAWAY"]]
    (event,) = guest.events()
    assert isinstance(event, Closed) and isinstance(event.error, ConnectionLost)
    assert "3 keepalive intervals" in event.error.message


def test_any_byte_is_a_sign_of_life() -> None:
    guest, host = make_pair()
    for _ in range(20):
        guest.keepalive()
        guest.receive_data(b"")
        guest.keepalive()
        host.receive_data(unsent(guest))
        guest.receive_data(unsent(host))
    assert guest.ready
    for byte in frame(FrameType.PING):
        guest.keepalive()
        guest.receive_data(bytes([byte]))
    assert guest.ready


def test_passive_peer_is_never_given_up() -> None:
    _, host = make_pair(guest={"passive": True})
    for _ in range(10):
        host.keepalive()
    assert kinds_in(unsent(host)).count("PING") == 2 and host.ready


def test_keepalive_does_not_pile_up_while_the_transport_is_full() -> None:
    guest, _ = make_pair()
    guest.pause()
    for number in range(100):
        guest.keepalive()
        if number % 2:
            guest.receive_data(frame(FrameType.PONG))
            guest.events()
    assert guest.ready and not guest._writer._waiting


def test_keepalive_waits_for_the_handshake() -> None:
    guest = make_guest()
    for _ in range(5):
        guest.keepalive()
    assert kinds_in(unsent(guest)) == ["HELLO"]


# -- ACK


@pytest.mark.parametrize(("announced", "every"), [(8, 2), (9, 2), (128, 32)])
def test_ack_comes_after_a_quarter_of_the_window(announced: int, every: int) -> None:
    guest, host = make_pair(guest={"limits": Limits(max_unacked_frames=announced)})
    (call,) = open_calls(guest, host)
    for number in range(1, 3 * every + 1):
        host.send_item(call, number)
        guest.receive_data(unsent(host))
        acks = [decode(head) for kind, _, _, head, _ in frames_in(unsent(guest)) if kind is FrameType.ACK]
        assert acks == ([number] if number % every == 0 else [])


def test_smaller_ack_is_ignored() -> None:
    guest, host = make_pair()
    for call in open_calls(guest, host, 3):
        host.finish(call, {})
    unsent(host)
    host.receive_data(frame(FrameType.ACK, 0, 3) + frame(FrameType.ACK, 0, 1))
    assert host.ready and host._writer.num_acked == 3


@pytest.mark.parametrize("count", [-1, 4, True, 1.0, None, [3]])
def test_ack_of_what_was_never_sent_is_refused(count: Any) -> None:
    guest, host = make_pair()
    for call in open_calls(guest, host, 3):
        host.finish(call, {})
    unsent(host)
    host.receive_data(frame(FrameType.ACK, 0, count))
    (event,) = host.events()
    assert isinstance(event, Closed) and isinstance(event.error, RemoteProtocolError)


# -- memory is not taken on a peer's word


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            raw(FrameType.CALL, 4, length=0xFFFF_FFFF, head_length=0xFFFF_FFFF), id="a head of 4 GiB"
        ),
        pytest.param(raw(FrameType.CALL, 4, length=4 << 20, head_length=4 << 20), id="a head of 4 MiB"),
        pytest.param(raw(99, 0, length=0xFFFF_FFFF, head_length=0, flags=0x80), id="4 GiB to skip"),
        pytest.param(frame(FrameType.CALL, 4)[:8] * 1000, id="nonsense"),
        pytest.param(
            raw(FrameType.CALL, 4, b"\x82\xa6method\xa1m\xa6params\x81\xa1a" + b"\xdd\x00\x01\x00\x00" * 200),
            id="lists in lists that claim 65,536 members each",
        ),
    ],
)
def test_claims_cost_nothing(data: bytes) -> None:
    host = end_in_state("host", "open")
    tracemalloc.start()
    host.receive_data(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_buffer_shrinks_after_a_large_frame() -> None:
    _, host = make_pair()
    large = frame(FrameType.CALL, 1, {"method": "m", "params": {"prompt": "x" * 3_000_000}})
    host.receive_data(large[:-1])
    assert 3_000_000 < len(host._reader.buffer.view) <= 8 << 20
    host.receive_data(large[-1:])
    assert len(host._reader.buffer.view) == 65_536 and len(host.events()) == 1


def test_head_over_the_limit_is_refused_before_it_comes() -> None:
    _, host = make_pair(host={"limits": Limits(max_head_bytes=65_536)})
    host.receive_data(raw(FrameType.CALL, 1, length=65_537, head_length=65_537))
    (event,) = host.events()
    assert isinstance(event, Closed) and isinstance(event.error, LimitExceeded)


def test_events_are_in_order_and_given_once() -> None:
    guest, host = make_pair()
    calls = [guest.open_call("m", {"n": n}) for n in range(5)]
    host.receive_data(unsent(guest))
    assert [event["call"] for event in plain_events(host.events())] == calls
    assert host.events() == []


def test_roles_share_no_tables() -> None:
    ends: list[Connection] = [make_guest(), make_host()]
    assert ends[0].role is not ends[1].role
