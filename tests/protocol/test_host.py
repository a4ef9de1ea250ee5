"""The end that answers: order, credit, windows, and exactly one end for each call."""

from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import (
    Cancelled,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    ModelNotFound,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol import GuestConnection, HostConnection, Limits, Windows
from mlxbridge.protocol.codec import decode
from mlxbridge.protocol.events import (
    CallCancelled,
    CallOpened,
    Closed,
    DataReceived,
    ErrorReceived,
    ItemReceived,
    ResultReceived,
    TokensReceived,
)
from mlxbridge.protocol.frames import FrameType
from mlxbridge.protocol.limits import LARGE_PIECE_BYTES, SHARED_PIECE_BYTES
from mlxbridge.protocol.parts import REASONING, TOOL_CALL, Part, melt
from tests.helpers.wire import frame, frames_in, kinds_in, make_pair, open_calls, pump, unsent

NUMBER_KEYS: dict[Any, Any] = {1: 2}
SMALL = Limits(max_head_bytes=65_536, max_piece_bytes=4096, max_unacked_frames=8)


def open_one(windows: Windows | None = None, **guest: Any) -> tuple[GuestConnection, HostConnection, int]:
    ends = make_pair(guest=guest)
    (call,) = open_calls(*ends, windows=windows)
    return *ends, call


def deliver(host: HostConnection, guest: GuestConnection) -> bytes:
    """What the host has to say, which the guest then knows."""
    said = unsent(host)
    guest.receive_data(said)
    return said


def tokens_in(data: bytes) -> list[Any]:
    return [decode(head) for kind, _, _, head, _ in frames_in(data) if kind is FrameType.TOKENS]


# -- tokens


def test_step_of_many_calls_is_one_frame() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 3)
    host.send_tokens(calls, [[1], [], [2, 3]], ["a", "", "b"])
    assert tokens_in(unsent(host)) == [[[1, 2, 3], [[1], [], [2, 3]], ["a", "", "b"]]]


def test_rows_of_calls_that_are_gone_are_dropped() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 4)
    host.finish(calls[0], {})
    guest.cancel(calls[1])
    pump(guest, host)
    host.send_tokens([*calls, 99], [[1]] * 5, ["a"] * 5)
    assert tokens_in(unsent(host)) == [[calls[2:], [[1], [1]], ["a", "a"]]]
    host.send_tokens([99], [[1]], ["a"])
    assert unsent(host) == b""


def test_call_without_credit_melts_its_tokens_and_others_go_on() -> None:
    guest, host = make_pair()
    (slow,) = open_calls(guest, host, windows=Windows(items=1))
    (fast,) = open_calls(guest, host)
    for number in range(5):
        host.send_tokens([slow, fast], [[number], [number]], [str(number), "."])
    rows = [
        (call, ids, text)
        for columns in tokens_in(unsent(host))
        for call, ids, text in zip(*columns, strict=True)
    ]
    assert [row for row in rows if row[0] == slow] == [(slow, [0], "0")]
    assert len(rows) == 6
    host.receive_data(frame(FrameType.CREDIT, slow, [2, 0]))
    assert tokens_in(unsent(host)) == [[[slow], [[1, 2, 3, 4]], ["1234"]]]


def test_paused_connection_melts_all_tokens_into_one_frame() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 2)
    host.pause()
    for number in range(1000):
        host.send_tokens(calls, [[number], [number]], ["a", "b"])
    assert unsent(host) == b"" and not host._writer._waiting and host.has_unsent
    host.resume()
    assert tokens_in(unsent(host)) == [[calls, [list(range(1000))] * 2, ["a" * 1000, "b" * 1000]]]


def test_same_call_twice_in_a_step_keeps_its_order() -> None:
    guest, host, call = open_one(Windows(items=1))
    host.send_tokens([call, call, call], [[1], [2], [3]], ["a", "b", "c"])
    pump(guest, host)
    guest.consume(call, items=1)
    pump(guest, host)
    assert guest.events() == [
        TokensReceived([call], [[1]], ["a"]),
        TokensReceived([call], [[2, 3]], ["bc"]),
    ]


@pytest.mark.parametrize("paused", [True, False])
def test_delta_over_the_guests_limit_is_cut_to_size(paused: bool) -> None:
    guest, host, call = open_one(limits=SMALL)
    if paused:
        host.pause()
    host.send_tokens([call], [list(range(200_000))], ["né" * 50_000])
    host.finish(call, {})
    host.resume()
    pump(guest, host)
    *tokens, result = guest.events()
    assert isinstance(result, ResultReceived)
    got = [event for event in tokens if isinstance(event, TokensReceived)]
    assert [token for event in got for token in event.token_ids[0]] == list(range(200_000))
    assert "".join(event.texts[0] for event in got) == "né" * 50_000


def test_list_over_the_protocols_bound_is_cut_though_the_head_would_fit() -> None:
    guest, host, call = open_one()
    host.send_tokens([call], [[1] * 65_537], [""])
    pump(guest, host)
    assert [len(event.token_ids[0]) for event in guest.events() if isinstance(event, TokensReceived)] == [
        65_536,
        1,
    ]


def test_large_rows_stay_inside_the_window() -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    calls = open_calls(guest, host, 30)
    host.send_tokens(calls, [[7] * 5000] * 30, ["x" * 1000] * 30)
    assert kinds_in(deliver(host, guest)) == ["TOKENS"] * 8
    pump(guest, host)
    got = [event for event in guest.events() if isinstance(event, TokensReceived)]
    assert [call for event in got for call in event.calls] == calls
    host.pause()
    host.send_tokens(calls, [[7] * 5000] * 30, ["x" * 1000] * 30)
    host.resume()
    assert len(kinds_in(deliver(host, guest))) <= 8
    pump(guest, host)
    got = [event for event in guest.events() if isinstance(event, TokensReceived)]
    assert sorted(call for event in got for call in event.calls) == calls


# -- logprobs


def rows_in(events: list[Any]) -> list[tuple[int, list[int], str, list[bytes] | None]]:
    return [
        row
        for event in events
        if isinstance(event, TokensReceived)
        for row in zip(
            event.calls,
            event.token_ids,
            event.texts,
            event.logprobs or [None] * len(event.calls),
            strict=True,
        )
    ]


def test_logprobs_share_the_frame_of_a_step_with_rows_that_have_none() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 3)
    host.send_tokens(calls, [[1], [2], []], ["a", "b", "c"], [None, [b"two"], None])
    said = deliver(host, guest)
    assert tokens_in(said) == [[calls, [[1], [2], []], ["a", "b", "c"], [None, [b"two"], None]]]
    assert guest.events() == [TokensReceived(calls, [[1], [2], []], ["a", "b", "c"], [None, [b"two"], None])]


def test_frame_without_logprobs_is_what_it_always_was() -> None:
    frames = []
    columns: list[list[list[bytes] | None] | None] = [None, [None, None], [None, []]]
    for column in columns:
        guest, host = make_pair()
        calls = open_calls(guest, host, 2)
        host.send_tokens(calls, [[1], []], ["a", "b"], column)
        frames.append(deliver(host, guest))
        assert guest.events() == [TokensReceived(calls, [[1], []], ["a", "b"])]
    assert frames == [frame(FrameType.TOKENS, 0, [[1, 2], [[1], []], ["a", "b"]])] * 3


def test_logprobs_of_calls_that_are_gone_are_dropped() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 3)
    host.finish(calls[0], {})
    guest.cancel(calls[1])
    pump(guest, host)
    guest.events()
    host.send_tokens([*calls, 99], [[1]] * 4, ["a"] * 4, [[b"x"]] * 4)
    pump(guest, host)
    assert rows_in(guest.events()) == [(calls[2], [1], "a", [b"x"])]


def test_call_without_credit_melts_its_logprobs_too() -> None:
    guest, host, call = open_one(Windows(items=1))
    for number in range(4):
        host.send_tokens([call], [[number]], ["."], [[b"%d" % number]])
        pump(guest, host)
    guest.consume(call, items=1)
    pump(guest, host)
    assert rows_in(guest.events()) == [
        (call, [0], ".", [b"0"]),
        (call, [1, 2, 3], "...", [b"1", b"2", b"3"]),
    ]


@pytest.mark.parametrize("paused", [True, False])
def test_logprobs_over_the_guests_limit_are_cut_with_their_tokens(paused: bool) -> None:
    guest, host, call = open_one(limits=SMALL)
    ids = list(range(3000))
    data = [b"%04d" % number * 30 for number in ids]
    if paused:
        host.pause()
    host.send_tokens([call], [ids], ["né" * 50_000], [data])
    host.finish(call, {})
    host.resume()
    pump(guest, host)
    *tokens, result = guest.events()
    assert isinstance(result, ResultReceived)
    got = rows_in(tokens)
    assert [token for row in got for token in row[1]] == ids
    assert [token for row in got for token in row[3] or ()] == data
    assert "".join(row[2] for row in got) == "né" * 50_000


@pytest.mark.parametrize("logprobs", [[b"x" * 70_000], [b"x", b"y"], []], ids=["large", "more", "fewer"])
def test_logprobs_that_cannot_be_sent_end_their_call_only(logprobs: list[bytes]) -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    calls = open_calls(guest, host, 2)
    host.send_tokens(calls, [[1], [2]], ["a", "b"], [logprobs, [b"x"]])
    pump(guest, host)
    events = guest.events()
    assert [event.call for event in events if isinstance(event, ErrorReceived)] == [calls[0]]
    assert rows_in(events) == [(calls[1], [2], "b", [b"x"])]
    assert host.is_open(calls[1])


def test_logprobs_wait_for_credit_up_to_a_bound() -> None:
    guest, host, call = open_one(Windows(items=0))
    megabyte = bytes(1 << 20)
    for _ in range(4):
        host.send_tokens([call], [[1]], ["a"], [[megabyte]])
    assert host.is_open(call)
    host.send_tokens([call], [[1]], ["a"], [[b"x"]])
    assert not host.is_open(call)
    host.send_tokens([call], [[1]], ["a"], [[b"too late"]])
    while guest.num_calls:
        pump(guest, host)
        guest.consume(call, items=1)
    *tokens, end = guest.events()
    assert isinstance(end, ErrorReceived) and isinstance(end.error, LimitExceeded)
    assert [data for row in rows_in(tokens) for data in row[3] or ()] == [megabyte] * 4 + [b"x"]


def hold_much(host: HostConnection, calls: list[int]) -> list[int]:
    """Give each call 4 MiB of logprobs; those that are still open."""
    for call in calls:
        host.send_tokens([call], [[1]], ["a"], [[bytes(4 << 20)]])
    return [call for call in calls if host.is_open(call)]


def test_logprobs_of_all_calls_together_wait_up_to_a_bound() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 18, windows=Windows(items=0))
    assert hold_much(host, calls) == calls[:16]
    host.send_tokens(calls[:1], [[1]], ["a"])  # tokens alone are not what is bounded
    assert host.is_open(calls[0])
    guest.cancel(calls[1])
    pump(guest, host)
    assert host.events() == [CallCancelled(calls[1])]
    (late,) = open_calls(guest, host, windows=Windows(items=0))
    assert hold_much(host, [late]) == [late], "what a cancelled call held counts no more"
    errors = [event for event in guest.events() if isinstance(event, ErrorReceived)]
    assert [event.call for event in errors] == calls[16:]
    assert all(isinstance(event.error, LimitExceeded) for event in errors)


def test_call_with_credit_is_none_the_worse_for_those_that_hold_logprobs_back() -> None:
    guest, host = make_pair()
    open_calls(guest, host, 16, windows=Windows(items=0))
    (call,) = open_calls(guest, host)
    hold_much(host, list(range(1, 17)))
    for _ in range(3):
        host.send_tokens([call], [[1]], ["a"], [[b"x"]])
        pump(guest, host)
    assert host.is_open(call)
    assert rows_in(guest.events()) == [(call, [1], "a", [b"x"])] * 3
    host.pause()
    host.send_tokens([call], [[1]], ["a"], [[b"x"]])
    assert not host.is_open(call)


# -- parts

THOUGHT: Part = [REASONING, "hm"]
CALLED: Part = [TOOL_CALL, 0, "id", "name", "{}"]


def parts_in(events: list[Any]) -> list[tuple[int, list[int], str, list[Part] | None]]:
    return [
        row
        for event in events
        if isinstance(event, TokensReceived)
        for row in zip(
            event.calls, event.token_ids, event.texts, event.parts or [None] * len(event.calls), strict=True
        )
    ]


def test_parts_share_the_frame_of_a_step_with_rows_that_have_none() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 3)
    columns = [calls, [[1], [2], []], ["", "b", ""], None, [[THOUGHT], None, [CALLED]]]
    host.send_tokens(*columns)  # type: ignore[arg-type]
    assert tokens_in(deliver(host, guest)) == [columns]
    assert guest.events() == [TokensReceived(*columns)]  # type: ignore[arg-type]


def test_parts_and_logprobs_share_a_frame() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 2)
    host.send_tokens(calls, [[1], [2]], ["", "b"], [[b"one"], None], [[THOUGHT], None])
    pump(guest, host)
    assert guest.events() == [
        TokensReceived(calls, [[1], [2]], ["", "b"], [[b"one"], None], [[THOUGHT], None])
    ]


def test_frame_after_the_parts_is_what_it_always_was() -> None:
    guest, host, call = open_one()
    host.send_tokens([call], [[1]], [""], None, [[THOUGHT]])
    host.send_tokens([call], [[2]], ["b"])
    assert [len(columns) for columns in tokens_in(deliver(host, guest))] == [5, 3]


def test_call_without_credit_melts_its_parts_too_and_its_neighbour_does_not_wait() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host, 1, Windows(items=1))
    (other,) = open_calls(guest, host, 1)
    for number in range(4):
        host.send_tokens([call, other], [[number], [9]], ["", "o"], None, [[THOUGHT], None])
        pump(guest, host)
    host.send_tokens([call], [[7]], ["text"], None, [[CALLED]])
    guest.consume(call, items=1)
    pump(guest, host)
    rows = parts_in(guest.events())
    assert [row for row in rows if row[0] == call] == [
        (call, [0], "", [THOUGHT]),
        (call, [1, 2, 3, 7], "text", [[REASONING, "hmhmhm"], CALLED]),
    ]
    assert [row for row in rows if row[0] == other] == [(other, [9], "o", None)] * 4


@pytest.mark.parametrize("paused", [True, False])
def test_parts_over_the_guests_limit_are_cut(paused: bool) -> None:
    guest, host, call = open_one(limits=SMALL)
    parts: list[Part] = [[REASONING, "né" * 50_000], [TOOL_CALL, 0, "id", "name", "x" * 15_000], THOUGHT]
    if paused:
        host.pause()
    host.send_tokens([call], [list(range(3000))], ["né" * 50_000], None, [parts])
    host.finish(call, {})
    host.resume()
    pump(guest, host)
    *tokens, result = guest.events()
    assert isinstance(result, ResultReceived)
    got = parts_in(tokens)
    assert melt([part for row in got for part in row[3] or ()]) == parts
    assert [token for row in got for token in row[1]] == list(range(3000))
    assert "".join(row[2] for row in got) == "né" * 50_000


def test_tool_call_over_the_guests_limit_ends_its_call_only() -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    calls = open_calls(guest, host, 2)
    too_large: Part = [TOOL_CALL, 0, "id", "name", "x" * 70_000]
    host.send_tokens(calls, [[1], [2]], ["a", "b"], None, [[too_large], [THOUGHT]])
    pump(guest, host)
    events = guest.events()
    (end,) = [event for event in events if isinstance(event, ErrorReceived)]
    assert end.call == calls[0] and isinstance(end.error, LimitExceeded)
    assert parts_in(events) == [(calls[1], [2], "b", [THOUGHT])]
    assert host.is_open(calls[1])


def test_part_that_cannot_be_encoded_ends_its_call_only() -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 2)
    host.send_tokens(calls, [[1], [2]], ["a", "b"], None, [[[REASONING, "\ud800"]], [THOUGHT]])
    pump(guest, host)
    events = guest.events()
    (end,) = [event for event in events if isinstance(event, ErrorReceived)]
    assert end.call == calls[0] and isinstance(end.error, InternalError)
    assert parts_in(events) == [(calls[1], [2], "b", [THOUGHT])]


@pytest.mark.parametrize("bad", ["\ud800", np.str_("x") + "\ud800"])
@pytest.mark.parametrize("paused", [True, False])
def test_row_that_cannot_be_encoded_ends_its_call_only(bad: str, paused: bool) -> None:
    guest, host = make_pair()
    calls = open_calls(guest, host, 3)
    if paused:
        host.pause()
    host.send_tokens(calls, [[1]] * 3, ["a", bad, "c"])
    host.resume()
    pump(guest, host)
    events = guest.events()
    assert [event.call for event in events if isinstance(event, ErrorReceived)] == [calls[1]]
    rows = [(event.calls, event.texts) for event in events if isinstance(event, TokensReceived)]
    assert rows == [([calls[0]], ["a"]), ([calls[2]], ["c"])]
    assert host.is_open(calls[0]) and not host.is_open(calls[1])


def test_row_that_cannot_be_encoded_leaves_the_others_inside_the_window() -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    calls = open_calls(guest, host, 20)
    host.send_tokens(calls, [[1]] * 20, ["\ud800"] + ["a"] * 19)
    assert len(kinds_in(deliver(host, guest))) == 8
    pump(guest, host)
    got = [event for event in guest.events() if isinstance(event, TokensReceived)]
    assert sorted(call for event in got for call in event.calls) == calls[1:]


# -- order


def test_what_a_call_sends_keeps_its_order_while_it_is_held_back() -> None:
    guest, host, call = open_one(Windows(items=1, bytes=4096))
    host.send_item(call, "first")
    host.send_item(call, "second")
    host.send_tokens([call], [[1]], ["a"])
    host.send_tokens([call], [[2]], ["b"])
    host.send_data(call, {}, bytes(10_000))
    host.send_tokens([call], [[3]], ["c"])
    host.send_item(call, "last")
    host.finish(call, {})
    order = []
    for _ in range(20):
        pump(guest, host)
        for event in guest.events():
            order.append(event)
            if isinstance(event, DataReceived):
                guest.consume(call, num_bytes=len(event.data))
            else:
                guest.consume(call, items=1)
    assert [type(event).__name__ for event in order] == [
        "ItemReceived",
        "ItemReceived",
        "TokensReceived",
        "DataReceived",
        "TokensReceived",
        "ItemReceived",
        "ResultReceived",
    ]
    assert order[2] == TokensReceived([call], [[1, 2]], ["ab"])


def test_call_that_has_ended_or_was_never_there_has_no_credit() -> None:
    _, host, call = open_one(Windows(items=3))
    assert host.items_granted(call) == 3 and host.items_granted(call + 1) == 0
    host.finish(call, {})
    assert host.items_granted(call) == 0


def test_end_waits_behind_tokens_without_credit() -> None:
    guest, host, call = open_one(Windows(items=1))
    host.send_tokens([call, call], [[1], [2]], ["a", "b"])
    host.finish(call, {"n": 2})
    assert not host.is_open(call) and host.num_calls == 1 and host.has_unsent
    pump(guest, host)
    assert len(guest.events()) == 1
    host.send_tokens([call], [[3]], ["too late"])
    host.send_item(call, "too late")
    host.send_data(call, {}, b"too late")
    guest.consume(call, items=1)
    pump(guest, host)
    assert guest.events() == [TokensReceived([call], [[2]], ["b"]), ResultReceived(call, {"n": 2})]
    assert host.num_calls == 0 and not host.has_unsent


# -- ends


def test_call_ends_once() -> None:
    guest, host, call = open_one()
    host.finish(call, {"n": 1})
    host.finish(call, {"n": 2})
    host.fail(call, InternalError("x"))
    host.finish(99, {})
    pump(guest, host)
    assert guest.events() == [ResultReceived(call, {"n": 1})]


@pytest.mark.parametrize(
    "result", [{"a": object()}, {1: 2}, {"a": "\ud800"}, {"a": "x" * 70_000}, {"a": [0] * 65_537}]
)
def test_result_that_cannot_be_sent_is_an_internal_error(result: dict[Any, Any]) -> None:
    guest, host, call = open_one(limits=SMALL)
    host.finish(call, result)
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, ErrorReceived) and isinstance(event.error, InternalError)


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("no such model: caf\udce9"),
        ModelNotFound("x" * 100_000),
        ModelNotFound("x", details={"a": object()}),
        ModelNotFound("x", details=NUMBER_KEYS),
        ModelNotFound("x", retry_after=float("inf")),
    ],
)
def test_error_always_reaches_the_guest(error: ModelNotFound) -> None:
    guest, host, call = open_one(limits=SMALL)
    host.fail(call, error)
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, ErrorReceived) and isinstance(event.error, ModelNotFound) and event.error.message


def test_error_keeps_its_facts() -> None:
    guest, host, call = open_one()
    host.fail(call, Overloaded("full", retry_after=1.5, details={"queued": 3}))
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, ErrorReceived) and isinstance(event.error, Overloaded)
    assert event.error.retryable and event.error.retry_after == 1.5 and event.error.details == {"queued": 3}


# -- items and payloads


def test_items_wait_for_credit_up_to_a_bound() -> None:
    guest, host, call = open_one(Windows(items=1))
    for number in range(1 + 1024):
        host.send_item(call, number)
    assert host.is_open(call)
    host.send_item(call, "one too many")
    assert not host.is_open(call)
    for _ in range(1100):
        pump(guest, host)
        guest.consume(call, items=1)
    events = guest.events()
    assert len(events) == 1026 and isinstance(events[-1], ErrorReceived)
    assert isinstance(events[-1].error, LimitExceeded)


def test_payloads_wait_for_credit_up_to_a_bound() -> None:
    _, host, call = open_one(Windows(bytes=0))
    for _ in range(1024):
        host.send_data(call, {}, b"x")
    assert host.is_open(call)
    host.send_data(call, {}, b"x")
    assert not host.is_open(call)


def test_payload_over_the_guests_limit_ends_its_call() -> None:
    guest, host, call = open_one(limits=Limits(max_payload_bytes=10))
    host.send_data(call, {}, bytes(11))
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, ErrorReceived) and isinstance(event.error, LimitExceeded)


@pytest.mark.parametrize("array", [np.zeros((4, 4))[:, 1], np.zeros((4, 4), order="F")])
def test_payload_must_be_contiguous(array: Any) -> None:
    _, host, call = open_one()
    with pytest.raises(LocalProtocolError, match="contiguous"):
        host.send_data(call, {}, array)
    assert host.is_open(call)


@pytest.mark.parametrize(
    "array", [np.zeros((0, 768), np.float32), b"", np.zeros(3, np.float16), np.zeros((2, 3))]
)
def test_payload_may_be_any_array(array: Any) -> None:
    guest, host, call = open_one()
    host.send_data(call, {"shape": list(np.shape(array))}, array)
    pump(guest, host)
    (event,) = guest.events()
    assert isinstance(event, DataReceived) and event.data == bytes(array)


def test_pieces_are_as_large_as_the_guest_takes_unless_other_calls_wait_for_them() -> None:
    guest, host = make_pair(guest={"limits": Limits(max_piece_bytes=LARGE_PIECE_BYTES)})
    first, second = open_calls(guest, host, 2)

    def pieces(call: int) -> list[int]:
        host.send_data(call, {}, bytes(2 * LARGE_PIECE_BYTES))
        return [len(piece) for kind, *_, piece in frames_in(deliver(host, guest)) if kind is FrameType.DATA]

    assert pieces(first) == [SHARED_PIECE_BYTES] * 8
    host.finish(first, {})
    assert pieces(second) == [LARGE_PIECE_BYTES] * 2


def test_payload_is_not_copied() -> None:
    _, host, call = open_one()
    body = bytearray(b"x" * 100_000)
    host.send_data(call, {}, body)
    parts = host.data_to_send()
    assert any(isinstance(part, memoryview) and part.obj is body for part in parts)


def test_payload_leaves_as_it_comes() -> None:
    guest, host, call = open_one()
    left: list[int] = []
    host.begin_data(call, {"shape": [3]}, 300, left.append)
    assert unsent(host) == b""
    said = b""
    for letter in (b"a", b"b", b"c"):
        host.continue_data(call, memoryview(letter * 100))
        said += deliver(host, guest)
        assert left == [100] * (len(said) // 100)
    host.finish(call, {})
    deliver(host, guest)
    assert kinds_in(said) == ["DATA"] * 3
    data, end = guest.events()
    assert isinstance(data, DataReceived) and data.meta == {"shape": [3], "nbytes": 300}
    assert bytes(data.data) == b"a" * 100 + b"b" * 100 + b"c" * 100 and isinstance(end, ResultReceived)


def test_payload_of_which_a_part_is_missing_must_be_given_first() -> None:
    _, host, call = open_one()
    with pytest.raises(LocalProtocolError, match="of which 0 are missing"):
        host.continue_data(call, memoryview(b"x"))
    host.begin_data(call, {}, 10)
    with pytest.raises(LocalProtocolError, match="of which 10 are missing"):
        host.continue_data(call, memoryview(bytes(11)))
    with pytest.raises(LocalProtocolError, match="10 bytes of the payload before"):
        host.send_data(call, {}, b"x")
    with pytest.raises(LocalProtocolError, match="10 bytes of a payload"):
        host.finish(call, {})
    assert host.is_open(call)


@pytest.mark.parametrize("num_bytes", [0, 400, 1000])
def test_payload_of_a_call_that_fails_breaks_off(num_bytes: int) -> None:
    guest, host, call = open_one()
    host.send_item(call, "before")
    host.begin_data(call, {}, 1000)
    host.continue_data(call, memoryview(bytes(num_bytes)))
    deliver(host, guest)
    host.send_item(call, "behind")
    assert host.held_payload_bytes == 1000 - num_bytes
    host.fail(call, Overloaded("busy"))
    host.continue_data(call, memoryview(bytes(1000)))  # whose end has come: nobody wants it
    deliver(host, guest)
    events = [type(event) for event in guest.events()]
    whole = [DataReceived, ItemReceived] if num_bytes == 1000 else []
    assert events == [ItemReceived, *whole, ErrorReceived]
    assert host.num_calls == 0 and guest.ready


def test_payload_of_a_call_that_is_cancelled_breaks_off() -> None:
    guest, host, call = open_one()
    host.begin_data(call, {}, 1000)
    host.continue_data(call, memoryview(bytes(100)))
    pump(guest, host)
    guest.cancel(call)
    pump(guest, host)
    assert host.events() == [CallCancelled(call)] and host.held_payload_bytes == 0
    host.continue_data(call, memoryview(bytes(900)))
    host.finish(call, {})
    pump(guest, host)
    assert guest.events() == [ResultReceived(call, {})]


BAD_VALUES: list[Any] = [object(), "\ud800", {1: 2}, "x" * 70_000]


@pytest.mark.parametrize("value", BAD_VALUES)
def test_item_that_cannot_be_sent_raises_and_leaves_the_call_open(value: Any) -> None:
    guest, host, call = open_one(limits=SMALL)
    with pytest.raises(LocalProtocolError):
        host.send_item(call, value)
    with pytest.raises(LocalProtocolError):
        host.send_data(call, {"meta": value}, b"")
    host.send_item(call, 1)
    pump(guest, host)
    assert guest.events() == [ItemReceived(call, 1)]


def test_window_of_the_guest_is_kept() -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    (call,) = open_calls(guest, host)
    for number in range(20):
        host.send_item(call, number)
    host.finish(call, {})
    assert kinds_in(deliver(host, guest)) == ["ITEM"] * 8
    host.receive_data(frame(FrameType.ACK, 0, 3))
    assert kinds_in(deliver(host, guest)) == ["ITEM"] * 3
    pump(guest, host)
    assert [type(event) for event in guest.events()] == [ItemReceived] * 20 + [ResultReceived]


def test_end_waits_for_the_window() -> None:
    guest, host = make_pair(guest={"limits": SMALL})
    calls = open_calls(guest, host, 10)
    for call in calls:
        host.finish(call, {})
    assert kinds_in(deliver(host, guest)) == ["RESULT"] * 8 and host.num_calls == 2
    pump(guest, host)
    assert [event.call for event in guest.events() if isinstance(event, ResultReceived)] == calls


# -- cancelling


def test_cancel_is_told_once_and_the_call_must_still_end() -> None:
    guest, host, call = open_one(Windows(items=1))
    host.send_tokens([call, call], [[1], [2]], ["a", "b"])
    host.send_item(call, 1)
    host.receive_data(frame(FrameType.CANCEL, call) * 3 + frame(FrameType.CANCEL, 99))
    assert host.events() == [CallCancelled(call)] and host.is_open(call)
    host.send_tokens([call], [[3]], ["c"])
    host.send_item(call, 2)
    host.send_data(call, {}, b"x")
    host.fail(call, Cancelled("on request"))
    pump(guest, host)
    tokens, end = guest.events()
    assert tokens == TokensReceived([call], [[1]], ["a"])
    assert isinstance(end, ErrorReceived) and isinstance(end.error, Cancelled)


def test_cancel_of_a_call_whose_end_waits_lets_it_leave() -> None:
    guest, host, call = open_one(Windows(items=1))
    host.send_tokens([call, call], [[1], [2]], ["a", "b"])
    host.finish(call, {})
    unsent(host)
    host.receive_data(frame(FrameType.CANCEL, call))
    assert host.events() == [] and kinds_in(unsent(host)) == ["RESULT"]


# -- calls


def test_call_numbers_may_leave_gaps() -> None:
    _, host = make_pair()
    host.receive_data(frame(FrameType.CALL, 7, {"method": "m"}) + frame(FrameType.CALL, 9, {"method": "m"}))
    assert host.events() == [CallOpened(7, "m", {}, None), CallOpened(9, "m", {}, None)]


def test_calls_over_the_limit_end_the_connection() -> None:
    _, host = make_pair(host={"limits": Limits(max_calls=2)})
    for number in (1, 2, 3):
        host.receive_data(frame(FrameType.CALL, number, {"method": "m"}))
    *_, event = host.events()
    assert isinstance(event, Closed) and isinstance(event.error, LimitExceeded)


def test_draining_host_ends_new_calls_and_says_that_they_did_not_start() -> None:
    guest, host = make_pair()
    (call,) = open_calls(guest, host)
    late = guest.open_call("m", {})
    host.go_away("restarting", 1000)
    host.go_away("restarting", 1000)
    pump(guest, host)
    goaway, error = guest.events()
    assert isinstance(error, ErrorReceived) and error.call == late
    assert isinstance(error.error, Unavailable) and error.error.details == {"started": False}
    assert host.draining and host.events() == []
    host.finish(call, {})
    pump(guest, host)
    assert guest.events() == [ResultReceived(call, {})]
    host.close()
    host.go_away("again", 0)
    assert unsent(host) == b""


def test_flood_of_calls_to_a_draining_host_is_bounded() -> None:
    _, host = make_pair(guest={"limits": SMALL})
    host.go_away("restarting", 1000)
    unsent(host)
    number = 0
    while not host.closed:
        number += 1
        host.receive_data(frame(FrameType.CALL, number, {"method": "m"}))
    assert number <= 8 + 1024 + 1 and len(host._writer._waiting) <= 10


@pytest.mark.parametrize("smaller", [[0, 0], [1, 1]])
def test_credit_never_shrinks(smaller: list[int]) -> None:
    guest, host, call = open_one(Windows(items=2, bytes=10))
    host.receive_data(frame(FrameType.CREDIT, call, smaller))
    host.send_tokens([call, call], [[1], [2]], ["", ""])
    host.send_data(call, {}, bytes(10))
    assert kinds_in(unsent(host)) == ["TOKENS", "DATA"]


def test_credit_for_a_call_that_has_ended_is_ignored() -> None:
    _, host, call = open_one()
    host.finish(call, {})
    host.receive_data(frame(FrameType.CREDIT, call, [1, 1]) + frame(FrameType.CREDIT, 99, [1, 1]))
    assert host.ready


def test_closed_host_answers_nothing_more() -> None:
    guest, host, call = open_one()
    host.receive_data(b"\xff" * 100)
    *_, event = host.events()
    assert isinstance(event, Closed) and isinstance(event.error, RemoteProtocolError)
    said = unsent(host)
    host.send_tokens([call], [[1]], ["a"])
    host.send_item(call, 1)
    host.send_data(call, {}, b"x")
    host.finish(call, {})
    host.fail(call, InternalError("x"))
    assert kinds_in(said) == ["GOAWAY"] and unsent(host) == b""
    assert host.num_calls == 0 and not host.is_open(call) and not host.has_unsent
