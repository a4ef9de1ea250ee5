"""The worker's loop over a real socket, turned by hand: one turn is one engine step."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from mlxbridge import logs
from mlxbridge.errors import (
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    ModelLoadFailed,
    Overloaded,
    UnknownMethod,
)
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.drafts.payoff import Payoff
from mlxbridge.host.engine.interface import GenerateRequest, Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.text.tokens import Codec
from mlxbridge.host.worker import backlog as backlog_module
from mlxbridge.host.worker.generation import Generation
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.rate import Rate
from mlxbridge.host.worker.service import Serve
from mlxbridge.protocol import Windows, answers
from mlxbridge.protocol.events import ErrorReceived, Event, ItemReceived, ResultReceived, TokensReceived
from mlxbridge.protocol.logprobs import decode_logprobs
from tests.host.worker.front_end import FrontEnd, generate, generate_for


def long_calls(front: FrontEnd) -> list[int]:
    """Four calls that do not come to an end of their own soon: which seeds do is found by trying."""
    trials = {seed: generate(front, max_tokens=40, seed=seed) for seed in range(12)}
    while any(front.end(call) is None for call in trials.values()):
        front.turn()
    ends = {seed: front.end(call) for seed, call in trials.items()}
    seeds = [
        s
        for s, end in ends.items()
        if isinstance(end, ResultReceived) and end.result["finish_reason"] == "length"
    ]
    return [generate(front, max_tokens=300, seed=seed) for seed in seeds[:4]]


def test_step_writes_tokens_of_all_calls_at_once(ready: FrontEnd) -> None:
    calls = [generate(ready, max_tokens=20, seed=seed) for seed in range(4)]
    for _ in range(6):
        ready.turn()
    shared = [event for event in ready.events if isinstance(event, TokensReceived)]
    assert any(sorted(event.calls) == calls for event in shared)


def test_cancelled_call_frees_its_slot_within_one_step(ready: FrontEnd) -> None:
    calls = long_calls(ready)
    assert len(calls) == 4
    while not all(ready.tokens(call) > 2 for call in calls):
        ready.turn()
    waiting = generate(ready, max_tokens=5)  # all four slots are taken
    ready.turn()
    assert ready.tokens(waiting) == 0
    before = ready.tokens(calls[0])
    ready.connection.cancel(calls[0])
    ready.turn()
    assert ready.tokens(calls[0]) == before  # not one more step for it
    end = ready.end(calls[0])
    assert isinstance(end, ResultReceived)
    assert end.result["finish_reason"] == "cancelled"
    stats = ready.connection.open_call("stats", {})
    ready.turn()
    ready.turn()
    counted = ready.end(stats)
    assert isinstance(counted, ResultReceived)
    assert (counted.result["running"], counted.result["waiting"]) in ((3, 1), (4, 0))
    assert ready.tokens(waiting) > 0  # within two steps its slot is in use again


def test_cancel_during_the_wait_for_a_slot_ends_the_call(ready: FrontEnd) -> None:
    running = long_calls(ready)
    ready.turn()
    waiting = generate(ready, max_tokens=5)
    ready.turn()
    ready.connection.cancel(waiting)
    ready.turn()
    end = ready.end(waiting)
    assert isinstance(end, ResultReceived)
    assert (end.result["finish_reason"], end.result["completion_tokens"]) == ("cancelled", 0)
    assert all(ready.end(call) is None for call in running)


def test_deadline_of_the_worker_call_ends_it(ready: FrontEnd) -> None:
    running = long_calls(ready)
    late = generate_for(ready, "someone", deadline_ms=0, max_tokens=5)
    patient = generate_for(ready, "someone", deadline_ms=3_600_000, max_tokens=2)
    ready.turn()
    ready.turn()
    end = ready.end(late)
    assert isinstance(end, ErrorReceived) and isinstance(end.error, DeadlineExceeded)
    ready.connection.cancel(running[0])
    while ready.end(patient) is None:
        ready.turn()
    assert isinstance(ready.end(patient), ResultReceived)


def test_guests_take_turns_in_being_begun(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = count_begun(monkeypatch)
    many = [generate_for(ready, "many", max_tokens=1, seed=seed) for seed in range(12)]
    few = [generate_for(ready, "few", max_tokens=1, seed=seed) for seed in range(2)]
    ready.turn()
    assert begun == [many[0], few[0], many[1], few[1], *many[2:6]]
    ready.connection.cancel(many[6])
    ready.turn()
    assert begun[8:] == many[7:]


def test_refused_call_leaves_the_others_alone(ready: FrontEnd) -> None:
    good = generate(ready, max_tokens=3)
    bad = generate(ready, top_p=7.0)
    while ready.end(good) is None:
        ready.turn()
    end = ready.end(bad)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, InvalidArgument)
    assert isinstance(ready.end(good), ResultReceived)


def test_logprobs_are_sent_for_the_calls_that_ask(ready: FrontEnd) -> None:
    asks, plain = generate(ready, max_tokens=6, logprobs=2, ignore_eos=True), generate(ready, max_tokens=6)
    while ready.end(asks) is None or ready.end(plain) is None:
        ready.turn()
    num_tokens = 0
    for event in ready.events:
        if isinstance(event, TokensReceived):
            column = event.logprobs or [None] * len(event.calls)
            for call, ids, data in zip(event.calls, event.token_ids, column, strict=True):
                assert call == asks or data is None
                if call == asks:
                    tokens = [decode_logprobs(each) for each in data or ()]
                    assert [token.chosen.token_id for token in tokens] == ids
                    assert all(len(token.top) == 2 for token in tokens)
                    num_tokens += len(tokens)
    assert num_tokens == 6


def test_parts_are_sent_for_the_calls_that_ask(ready: FrontEnd, thinking: LoadedModel) -> None:
    ready.loop._service = Generation(
        BatchEngine(thinking), Codec(thinking), ready.loop._connection, "thinking"
    )
    messages = [{"role": "user", "content": "x"}]
    asks = generate(ready, prompt=None, messages=messages, reasoning=True, temperature=0)
    plain = generate(ready, max_tokens=5)
    while not (ready.end(asks) and ready.end(plain)):
        assert ready.turn()
    told: dict[int, list[Any]] = {asks: [], plain: []}
    for event in ready.events:
        if isinstance(event, TokensReceived):
            for call, parts in zip(event.calls, event.parts or [None] * len(event.calls), strict=True):
                told[call] += parts or []
    assert not told[plain]
    assert told[asks] == [[1, "hm "], [1, "so"], [1, "</think"]]  # the last one without a token
    end = ready.end(asks)
    assert isinstance(end, ResultReceived) and end.result["reasoning_tokens"] == 4


def test_call_whose_logprobs_nobody_takes_is_stopped(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_HELD_LOGPROB_BYTES", 1000)
    request = {"prompt": "hello there", "max_tokens": 300, "ignore_eos": True, "logprobs": 5}
    params = {"request": request, "guest": "someone", "cache_scope": ""}
    unread = ready.connection.open_call("generate", params, windows=Windows(items=0))
    plain = generate(ready, max_tokens=300, ignore_eos=True)
    while ready.tokens(plain) < 50:
        ready.turn()
    stats = ready.connection.open_call("stats", {})
    ready.connection.consume(unread, items=1)  # what was held leaves, and behind it the reason
    ready.turn()
    counted, end = ready.end(stats), ready.end(unread)
    assert isinstance(counted, ResultReceived) and counted.result["running"] == 1
    assert isinstance(end, ErrorReceived) and isinstance(end.error, LimitExceeded)
    assert ready.tokens(unread) == 1


def test_result_says_which_token_ended_the_answer(ready: FrontEnd) -> None:
    first = generate(ready, max_tokens=3, ignore_eos=True)
    while ready.end(first) is None:
        ready.turn()
    drawn = [
        token
        for event in ready.events
        if isinstance(event, TokensReceived)
        for ids in event.token_ids
        for token in ids
    ]
    again = generate(ready, max_tokens=3, ignore_eos=True, stop_token_ids=[drawn[1]])
    while ready.end(again) is None:
        ready.turn()
    ends = ready.end(first), ready.end(again)
    assert isinstance(ends[0], ResultReceived) and isinstance(ends[1], ResultReceived)
    assert "stop_token_id" not in ends[0].result and ends[0].result["cached_tokens"] == 0
    assert (ends[1].result["stop_token_id"], ends[1].result["finish_reason"]) == (drawn[1], "stop")


def test_result_says_what_was_drafted(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Payoff, "decide", lambda *_, **__: True)
    monkeypatch.setattr(Payoff, "width", lambda *_, **__: 4)
    always_the_same = {"max_tokens": 40, "logit_bias": [[7, 90.0]]}
    plain = generate(ready, **always_the_same)
    drafting = generate(ready, **always_the_same, speculation="ngram")
    while ready.end(plain) is None or ready.end(drafting) is None:
        ready.turn()
    ends = ready.end(plain), ready.end(drafting)
    assert isinstance(ends[0], ResultReceived) and isinstance(ends[1], ResultReceived)
    assert "draft_tokens" not in ends[0].result and "accepted_tokens" not in ends[0].result
    assert 20 < ends[1].result["accepted_tokens"] <= ends[1].result["draft_tokens"]


def test_unknown_method_is_an_error(ready: FrontEnd) -> None:
    call = ready.connection.open_call("fly", {})
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, UnknownMethod)


def test_stats_count_what_runs(ready: FrontEnd) -> None:
    generate(ready, max_tokens=300)
    ready.turn()
    call = ready.connection.open_call("stats", {})
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ResultReceived)
    assert end.result["running"] + end.result["waiting"] == 1


def test_model_that_cannot_be_loaded_ends_the_worker_with_a_reason(front: FrontEnd) -> None:
    call = front.connection.open_call("load", {"name": "bad"})
    assert front.turn() is False
    end = front.end(call)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, ModelLoadFailed)
    assert end.error.message == "no such weights"


def test_generate_before_load_is_an_error(front: FrontEnd) -> None:
    call = generate(front)
    assert front.turn() is True
    assert isinstance(front.end(call), ErrorReceived)


def test_front_that_is_gone_ends_the_worker(ready: FrontEnd) -> None:
    generate(ready, max_tokens=300)
    ready.turn()
    ready.sock.close()
    for _ in range(3):
        if not ready.loop.run_once():
            return
    raise AssertionError("the worker goes on for nobody")


def test_load_tells_its_stages_before_its_end(front: FrontEnd) -> None:
    call = front.connection.open_call("load", {"name": "tiny"})
    front.turn()
    assert [type(event) for event in front.events[-2:]] == [ItemReceived, ResultReceived]
    assert front.events[-2] == ItemReceived(call, {"stage": "loading"})


def test_stage_leaves_before_the_work_begins(loaded: LoadedModel) -> None:
    ours, theirs = socket.socketpair()
    seen: list[Event] = []

    def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
        tell("loading")
        end.connection.receive_data(ours.recv(1 << 16))
        seen.extend(end.connection.events())
        return partial(Generation, BatchEngine(loaded), Codec(loaded))

    with ours, theirs:
        end = FrontEnd(ours, WorkerLoop(theirs, load_model))
        end.turn()
        call = end.connection.open_call("load", {"name": "tiny"})
        end.turn()
    assert ItemReceived(call, {"stage": "loading"}) in seen


def test_few_calls_are_begun_in_one_turn(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = count_begun(monkeypatch)
    calls = [generate(ready, max_tokens=2, seed=seed) for seed in range(20)]
    counts = []
    for _ in range(3):
        ready.turn()
        counts.append(len(begun))
    assert counts == [8, 16, 20]
    assert begun == calls  # in order of arrival
    while any(ready.end(call) is None for call in calls):
        ready.turn()


def test_large_calls_are_begun_one_a_turn(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = count_begun(monkeypatch)
    for _ in range(3):
        generate(ready, prompt="x" * 50_000)
    monkeypatch.setattr(backlog_module, "BYTES_A_TURN", 40_000)
    ready.turn()
    ready.turn()
    assert len(begun) == 2


def test_cancel_of_a_call_that_is_not_begun_ends_it_at_once(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_begun(monkeypatch)
    calls = [generate(ready, max_tokens=2) for _ in range(12)]
    ready.connection.cancel(calls[11])
    ready.turn()
    end = ready.end(calls[11])
    assert isinstance(end, ResultReceived)
    assert (end.result["finish_reason"], end.result["completion_tokens"]) == ("cancelled", 0)
    ready.turn()
    assert begun == calls[:11]


def test_too_much_to_read_is_refused(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_BYTES", 10_000)
    kept, refused = generate(ready, prompt="x" * 100), generate(ready, prompt="x" * 10_000)
    ready.turn()
    end = ready.end(refused)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, Overloaded)
    assert end.error.retry_after
    while ready.end(kept) is None:
        ready.turn()
    assert isinstance(ready.end(kept), ResultReceived)


def test_stats_count_calls_that_are_not_begun(ready: FrontEnd) -> None:
    for _ in range(12):
        generate(ready, max_tokens=300)
    call = ready.connection.open_call("stats", {})
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ResultReceived)
    assert end.result["waiting"] == 12


def test_tokens_are_counted_without_a_look_at_everything_else(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: BatchEngine) -> dict[str, int]:
        raise AssertionError("it is asked only where somebody wants to know")

    with monkeypatch.context() as patch:
        patch.setattr(BatchEngine, "stats", refuse)
        ready.loop._rate = Rate()  # whose first sample is due
        call = generate(ready, max_tokens=5, ignore_eos=True)
        while ready.end(call) is None:
            ready.turn()
    stats = ready.connection.open_call("stats", {})
    ready.turn()
    told = ready.end(stats)
    assert isinstance(told, ResultReceived)
    assert (told.result["tokens_total"], told.result["tokens_per_s"]) == (5, 0.5)


def test_process_logs_as_the_front_says(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_libraries", logging.WARNING)
    before = logging.getLogger().level, logs.current_level(), logs.current_format()
    try:
        call = ready.connection.open_call("log", {"level": logging.DEBUG, "format": "json"})
        ready.turn()
        assert isinstance(ready.end(call), ResultReceived)
        assert (logs.current_level(), logs.current_format()) == (logging.DEBUG, "json")
        assert logging.getLogger().level == logging.WARNING  # what libraries say at less is nobody's to read
    finally:
        logs.set_level(before[1])
        logs.set_format(before[2])
        logging.getLogger().setLevel(before[0])


def count_begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls that were given to an engine, in order."""
    begun: list[int] = []
    submit = BatchEngine.submit

    def counted(engine: BatchEngine, call: int, request: GenerateRequest, origin: Origin) -> None:
        begun.append(call)
        submit(engine, call, request, origin)

    monkeypatch.setattr(BatchEngine, "submit", counted)
    return begun


def test_call_that_is_held_before_it_was_read_is_not_begun(ready: FrontEnd) -> None:
    call = generate(ready, max_tokens=5)
    ready.connection.open_call("hold", {"call": call})
    for _ in range(5):
        ready.turn()
        if ready.loop._service is not None and ready.loop._service.wait_s is None:
            break
    assert ready.tokens(call) == 0 and ready.end(call) is None
    ready.connection.open_call("go_on", {"call": call})
    while ready.end(call) is None:
        ready.turn()
    assert isinstance(ready.end(call), ResultReceived)


def test_held_call_can_be_cancelled(ready: FrontEnd) -> None:
    call = generate(ready, max_tokens=100)
    while not ready.tokens(call):
        ready.turn()
    ready.connection.open_call("hold", {"call": call})
    ready.turn()
    ready.connection.cancel(call)
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ResultReceived) and end.result["finish_reason"] == "cancelled"
