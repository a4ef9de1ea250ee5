"""Credit arithmetic of one call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.protocol.held import Delta, HeldRow, Payload
from mlxbridge.protocol.inflow import Inflow
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS, Windows
from mlxbridge.protocol.outflow import Outflow
from mlxbridge.protocol.parts import MALFORMED_CALL, REASONING, TOOL_CALL, Part, melt
from tests.helpers.wire import pack


def test_tokens_that_follow_tokens_melt() -> None:
    flow = Outflow(1, 0)
    flow.merge([1], "a")
    flow.merge([], "")
    flow.merge([2, 3], "")
    flow.merge([], "bc")
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow([1, 2, 3], "abc")
    assert not flow.queue and flow.items_sent == 1


def test_logprobs_melt_with_their_tokens_and_with_text_alone() -> None:
    flow = Outflow(1, 0)
    flow.merge([], "a")
    flow.merge([1], "", [b"one"])
    flow.merge([], "b", [])
    flow.merge([2, 3], "", [b"two", b"three"])
    assert flow.logprob_bytes == 11
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow(
        [1, 2, 3], "ab", [b"one", b"two", b"three"]
    )
    assert not flow.queue and flow.logprob_bytes == 0


def test_tokens_with_logprobs_and_tokens_without_do_not_melt() -> None:
    flow = Outflow(9, 0)
    flow.merge([1], "", [b"one"])
    flow.merge([2], "")
    flow.merge([3], "", [b"three"])
    rows = []
    while (delta := flow.first_delta()) is not None:
        rows.append(flow.take(delta, 1000))
    assert rows == [HeldRow([1], "", [b"one"]), HeldRow([2], ""), HeldRow([3], "", [b"three"])]


def test_parts_melt_in_their_order_and_reasoning_with_reasoning() -> None:
    flow = Outflow(1, 0)
    flow.merge([1], "", None, [[REASONING, "a"]])
    flow.merge([2], "x")
    flow.merge([3], "", None, [[REASONING, "b"], [MALFORMED_CALL, 0, "<"], [REASONING, "c"]])
    flow.merge([], "y", None, [[REASONING, "d"]])
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow(
        [1, 2, 3], "xy", None, [[REASONING, "ab"], [MALFORMED_CALL, 0, "<"], [REASONING, "cd"]]
    )
    assert not flow.queue


def test_parts_alone_are_held_back() -> None:
    flow = Outflow(1, 0)
    flow.merge([], "", None, [[REASONING, "a"]])
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow([], "", None, [[REASONING, "a"]])


def test_nothing_is_not_held_back() -> None:
    flow = Outflow(0, 0)
    flow.merge([], "")
    assert not flow.queue


def test_tokens_do_not_melt_across_an_item() -> None:
    flow = Outflow(9, 0)
    flow.merge([1], "")
    flow.queue.append(b"item")
    flow.merge([2], "")
    assert [type(part) for part in flow.queue] == [Delta, bytes, Delta]


def test_merge_leaves_the_engines_list_alone() -> None:
    flow, ids, logprobs = Outflow(0, 0), [1], [b"one"]
    parts: list[Part] = [[REASONING, "a"]]
    flow.merge(ids, "", logprobs, parts)
    flow.merge([2], "", [b"two"], [[REASONING, "b"]])
    assert ids == [1] and logprobs == [b"one"] and parts == [[REASONING, "a"]]


def test_delta_without_credit_stays() -> None:
    flow = Outflow(0, 0)
    flow.merge([1], "a")
    assert flow.first_delta() is None and not flow.can_send()
    flow.items_total = 1
    assert flow.first_delta() is not None and flow.can_send()


parts_of_answers = st.one_of(
    st.tuples(st.just(REASONING), st.text(max_size=400)),
    st.tuples(st.just(TOOL_CALL), st.integers(0, 9), st.just("id"), st.just("name"), st.text(max_size=25)),
    st.tuples(st.just(MALFORMED_CALL), st.integers(0, 9), st.text(max_size=30)),
).map(list)


@given(
    ids=st.lists(st.integers(0, (1 << 64) - 1), max_size=200),
    texts=st.lists(st.text(max_size=50), max_size=10),
    sizes=st.lists(st.integers(0, 150), min_size=200, max_size=200) | st.none(),
    parts=st.lists(parts_of_answers, max_size=12),
    room=st.integers(250, 2000),
)
def test_delta_is_cut_to_size_and_loses_nothing(
    ids: list[int], texts: list[str], sizes: list[int] | None, parts: list[Part], room: int
) -> None:
    flow = Outflow(1 << 30, 0)
    logprobs = [bytes(size) for size in sizes[: len(ids)]] if sizes and ids else None
    for text in texts:
        flow.merge([], text)
    for part in parts:
        flow.merge([], "", None, [part])
    flow.merge(ids, "", logprobs)
    got_ids: list[int] = []
    got_text = ""
    got_logprobs: list[bytes] = []
    got_parts: list[Part] = []
    while (delta := flow.first_delta()) is not None:
        row = flow.take(delta, room)
        assert row.ids or row.text or row.parts
        assert len(pack([[0x7FFF_FFFF], [row.ids], [row.text], [row.logprobs], [row.parts]])) <= room
        assert row.logprobs is None or len(row.logprobs) == len(row.ids)
        got_ids += row.ids
        got_text += row.text
        got_logprobs += row.logprobs or []
        got_parts += row.parts or []
        held = [part for part in flow.queue if isinstance(part, Delta)]
        assert flow.logprob_bytes == sum(len(data) for part in held for data in part.logprobs or ())
    assert got_ids == ids and got_text == "".join(texts) and got_logprobs == (logprobs or [])
    assert melt(got_parts) == melt(parts)


def test_tool_call_that_does_not_fit_is_given_alone() -> None:
    flow = Outflow(9, 0)
    call: Part = [TOOL_CALL, 0, "id", "name", "x" * 5000]
    flow.merge([1, 2], "text", None, [[REASONING, "a"], call, [REASONING, "b"]])
    rows = []
    while (delta := flow.first_delta()) is not None:
        rows.append(flow.take(delta, 1000))
    assert rows == [
        HeldRow([], "", None, [[REASONING, "a"]]),
        HeldRow([], "", None, [call]),
        HeldRow([1, 2], "text", None, [[REASONING, "b"]]),
    ]


def test_parts_are_cut_to_what_a_list_may_hold() -> None:
    flow = Outflow(9, 0)
    calls: list[Part] = [[MALFORMED_CALL, 0, ""]] * (MAX_ARRAY_ITEMS + 1)
    flow.merge([1], "", None, calls)
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1 << 30) == HeldRow([], "", None, calls[1:])
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1 << 30) == HeldRow([1], "", None, calls[:1])


def test_token_whose_logprobs_do_not_fit_is_given_alone() -> None:
    flow = Outflow(9, 0)
    flow.merge([1, 2], "text", [bytes(5000), b"x"])
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow([1], "", [bytes(5000)])
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow([2], "text", [b"x"])


def test_delta_is_cut_to_what_a_list_may_hold() -> None:
    flow = Outflow(9, 0)
    flow.merge([1] * (MAX_ARRAY_ITEMS + 1), "")
    delta = flow.first_delta()
    assert delta is not None
    assert len(flow.take(delta, 1 << 30)[0]) == MAX_ARRAY_ITEMS
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1 << 30) == HeldRow([1], "")


def test_put_back_undoes_take() -> None:
    flow = Outflow(1, 0)
    flow.merge([1], "a", [b"one"])
    delta = flow.first_delta()
    assert delta is not None
    flow.put_back(flow.take(delta, 1000))
    assert flow.logprob_bytes == 3
    delta = flow.first_delta()
    assert delta is not None and flow.take(delta, 1000) == HeldRow([1], "a", [b"one"])


@pytest.mark.parametrize(
    ("window", "credit", "size", "can"),
    [
        (1 << 20, 4095, 10_000, False),  # pieces must not dwindle
        (1 << 20, 4096, 10_000, True),
        (1 << 20, 10, 10, True),  # the rest is always enough
        (1 << 20, 9, 10, False),
        (1000, 499, 10_000, False),  # a small window: half of it
        (1000, 500, 10_000, True),
        (1, 1, 10_000, True),
        (1, 0, 10_000, False),
        (0, 0, 0, True),  # an empty payload needs none
        (0, 0, 1, False),
    ],
)
def test_payload_waits_for_credit_that_is_worth_a_piece(
    window: int, credit: int, size: int, can: bool
) -> None:
    flow = Outflow(0, window)
    flow.bytes_total, flow.bytes_sent = window, window - credit
    flow.queue.append(whole(size))
    assert flow.can_send() is can
    if size > 1:
        flow.queue[0] = part = Payload(b"", size)
        assert not flow.can_send()
        part.extend(memoryview(b"x"))
        assert flow.can_send() is can


def test_final_can_leave_only_when_nothing_is_before_it() -> None:
    flow = Outflow(0, 0)
    assert not flow.can_send()
    flow.final = b"result"
    assert flow.can_send()
    flow.merge([1], "a", [b"one"])
    assert not flow.can_send()
    flow.drop()
    assert flow.can_send() and flow.cancelled and flow.logprob_bytes == 0


def whole(size: int) -> Payload:
    payload = Payload(b"", size)
    payload.extend(memoryview(bytes(size)))
    return payload


def test_payload_gives_its_bytes_in_order_whatever_the_parts_it_came_in() -> None:
    payload = Payload(b"", 10)
    for part in (b"abc", b"", b"defg"):
        payload.extend(memoryview(part))
    assert [bytes(part) for part in payload.take(5)] == [b"abc", b"de"]
    assert (payload.held, payload.sent, payload.unsent, payload.missing) == (2, 5, 5, 3)
    payload.extend(memoryview(b"hij"))
    assert b"".join(payload.take(5)) == b"fghij" and not payload.unsent


def test_piecewise_payloads_are_granted_as_they_are_consumed_alone() -> None:
    flow = Inflow(Windows(items=1, bytes=100), piecewise=True)
    flow.payload_filled = 60
    assert not flow.grant_bytes()
    assert flow.consume(0, 60) and flow.bytes_granted == 160


def test_credit_for_items_comes_by_half_windows() -> None:
    flow = Inflow(Windows(items=5, bytes=0))
    assert [flow.consume(1, 0) for _ in range(7)] == [False, False, True, False, False, True, False]
    assert flow.items_granted == 5 + 6


def test_credit_for_bytes_comes_by_half_windows() -> None:
    flow = Inflow(Windows(items=1, bytes=100))
    assert not flow.consume(0, 49)
    assert flow.consume(0, 1) and flow.bytes_granted == 150
    assert not flow.consume(0, 0)


def test_payload_in_progress_is_granted_as_it_comes_and_whole_ones_are_not() -> None:
    flow = Inflow(Windows(items=1, bytes=100))
    flow.payload_filled = 60
    assert flow.grant_bytes() and flow.bytes_granted == 160
    flow.payload_filled = 0  # it is whole, and the application has not taken it
    assert not flow.grant_bytes()
    flow.payload_filled = 60  # the next one
    assert not flow.grant_bytes()
    assert flow.consume(0, 60) and flow.bytes_granted == 220


def test_window_of_no_bytes_never_gives_any() -> None:
    flow = Inflow(Windows(items=1, bytes=0))
    assert not flow.grant_bytes() and flow.bytes_granted == 0


@given(
    window=st.integers(1, 20_000),
    sizes=st.lists(st.integers(0, 30_000), max_size=6),
    piece=st.integers(1, 9000),
)
def test_payloads_never_stall_if_they_are_taken(window: int, sizes: list[int], piece: int) -> None:
    """Sender and receiver side by side: whatever the window, every payload gets through."""
    piece = max(piece, window // 50 + 1)  # else this takes all day
    sizes = [size % (window * 50) for size in sizes]
    outflow, inflow = Outflow(0, window), Inflow(Windows(items=1, bytes=window))
    untaken: list[int] = []
    for size in sizes:
        payload = whole(size)
        outflow.queue.append(payload)
        while True:
            if not outflow.can_send():
                outflow.bytes_total = inflow.bytes_granted
            if not outflow.can_send():
                assert untaken, "stalled, and the application has taken everything"
                inflow.consume(0, untaken.pop(0))
                continue
            count = min(payload.unsent, piece, outflow.bytes_total - outflow.bytes_sent)
            outflow.bytes_sent += count
            payload.take(count)
            if not payload.unsent:
                break
            inflow.payload_filled = payload.sent
            inflow.grant_bytes()
        outflow.queue.clear()
        inflow.payload_filled = 0
        untaken.append(size)
