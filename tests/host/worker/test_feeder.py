"""Many prompts as one call, at a worker with a real engine: one turn of the loop is one engine step."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import pytest

from mlxbridge.errors import DeadlineExceeded, InvalidArgument, LimitExceeded, Overloaded
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest, Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.text.tokens import Codec
from mlxbridge.host.worker import bundle as bundle_module
from mlxbridge.host.worker import feeder as feeder_module
from mlxbridge.host.worker.generation import Generation
from mlxbridge.protocol import Windows
from mlxbridge.protocol.events import ErrorReceived, ItemReceived, ResultReceived, TokensReceived
from mlxbridge.protocol.logprobs import decode_logprobs
from tests.host.worker.front_end import FrontEnd, generate

PROMPTS = [f"{word} number {number}" for number in range(8) for word in ("hello", "the brown fox", "naïve")]
COMMON = {"temperature": 0.9, "seed": 1000, "max_tokens": 12}


def generate_many(
    front: FrontEnd,
    prompts: list[Any],
    *,
    items: int = 1000,
    guest: str = "someone",
    deadline_ms: int | None = None,
    **params: Any,
) -> int:
    requests = [prompt if isinstance(prompt, dict) else {"prompt": prompt} for prompt in prompts]
    request = {**COMMON, **params, "requests": requests}
    return front.connection.open_call(
        "generate_many",
        {"request": request, "guest": guest, "cache_scope": ""},
        windows=Windows(items=items),
        deadline_ms=deadline_ms,
    )


def generation_of(front: FrontEnd) -> Generation:
    assert isinstance(front.loop._service, Generation)
    return front.loop._service


def items(front: FrontEnd, call: int) -> list[dict[str, Any]]:
    return [event.value for event in front.events if isinstance(event, ItemReceived) and event.call == call]


def finish(front: FrontEnd, call: int) -> dict[str, Any]:
    """The RESULT of a call."""
    while front.end(call) is None:
        front.turn()
    end = front.end(call)
    assert isinstance(end, ResultReceived), end
    return dict(end.result)


def test_requests_that_ask_have_their_parts_in_their_items(ready: FrontEnd, thinking: LoadedModel) -> None:
    engine = BatchEngine(thinking)
    ready.loop._service = Generation(engine, Codec(thinking), ready.loop._connection, "thinking")
    chat = {"messages": [{"role": "user", "content": "x"}], "temperature": 0}
    call = generate_many(ready, [{**chat, "reasoning": True}, "hello", {**chat, "max_reasoning_tokens": 1}])
    assert finish(ready, call)["completed"] == 3
    told, plain, bounded = sorted(items(ready, call), key=lambda item: int(item["index"]))
    assert (told["parts"], told["text"], told["reasoning_tokens"]) == ([[1, "hm so</think"]], "", 4)
    assert "parts" not in plain and "reasoning_tokens" not in plain
    assert bounded["parts"] == [[1, "hm "]] and bounded["text"].startswith("x")


def turn_until_idle(front: FrontEnd) -> None:
    """Until the worker would sleep."""
    front.turn()
    generation = generation_of(front)
    while generation.wait_s is not None:
        front.turn()


def text(front: FrontEnd, call: int) -> str:
    finish(front, call)
    rows = [
        (number, text)
        for event in front.events
        if isinstance(event, TokensReceived)
        for number, text in zip(event.calls, event.texts, strict=True)
    ]
    return "".join(text for number, text in rows if number == call)


def stats(front: FrontEnd) -> dict[str, Any]:
    return finish(front, front.connection.open_call("stats", {}))


def unpacked(data: bytes) -> list[int]:
    ids = array("I", data)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_each_prompt_is_answered_as_if_it_were_alone(ready: FrontEnd, temperature: float) -> None:
    job = generate_many(ready, PROMPTS, temperature=temperature)
    result = finish(ready, job)
    got = sorted(items(ready, job), key=lambda item: item["index"])
    assert [item["index"] for item in got] == list(range(len(PROMPTS)))
    for index in (0, 7, 20, 23):
        alone = generate(
            ready, **{**COMMON, "prompt": PROMPTS[index], "temperature": temperature, "seed": 1000 + index}
        )
        assert text(ready, alone) == got[index]["text"]
        usage = finish(ready, alone)
        assert usage.keys() - {"model"} <= got[index].keys()
        assert usage["completion_tokens"] == got[index]["completion_tokens"]
        assert len(unpacked(got[index]["token_ids"])) in (
            usage["completion_tokens"],
            usage["completion_tokens"] - 1,
        )
    assert result == {
        "model": "tiny",
        "completed": len(PROMPTS),
        "failed": 0,
        **{
            name: sum(item[name] for item in got)
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
        },
    }


def test_places_are_filled_and_given_to_the_next_at_once(ready: FrontEnd) -> None:
    prompts = [{"prompt": text, "max_tokens": 9 + number % 4} for number, text in enumerate(PROMPTS)]
    job = generate_many(ready, prompts, ignore_eos=True)
    while not items(ready, job):
        ready.turn()
    num_ended = len(items(ready, job))
    counted = stats(ready)
    assert counted["running"] >= 3
    assert counted["requests_waiting"] + counted["waiting"] + counted["running"] == len(PROMPTS) - num_ended
    num_tokens = finish(ready, job)["completion_tokens"]
    # Four tokens a step, but for the first prompts, which are read, and the last, which leave places free.
    assert stats(ready)["steps_total"] < num_tokens / 4 + 2 * len(PROMPTS)


def test_bad_prompt_fails_at_its_index_alone(ready: FrontEnd) -> None:
    bad: list[Any] = [
        "fine",
        {"prompt": 3},
        {"prompt": "x", "messages": []},
        {"prompt": "x", "max_tokens": 100_000},
        {"prompt": "x", "priority": "high"},
        {"prompt": "x", "tempature": 1},
        "fine too",
    ]
    job = generate_many(ready, bad)
    requests = ready.connection.open_call(
        "generate_many",
        {"request": {"requests": [["no map"], {"prompt": "x"}]}, "guest": "a", "cache_scope": ""},
        windows=Windows(items=2),
    )
    result = finish(ready, job)
    got = {item["index"]: item for item in items(ready, job)}
    assert (result["completed"], result["failed"]) == (2, 5)
    assert {index for index, item in got.items() if "text" in item} == {0, 6}
    assert [got[index]["error"]["name"] for index in range(1, 6)] == [
        "InvalidArgument",
        "InvalidArgument",
        "ContextTooLong",
        "InvalidArgument",
        "InvalidArgument",
    ]
    assert [got[index]["error"]["details"]["field"] for index in (1, 4, 5)] == [
        "prompt",
        "priority",
        "tempature",
    ]
    assert finish(ready, requests)["failed"] == 1


def test_request_has_its_own_options_before_the_common_ones(ready: FrontEnd) -> None:
    job = generate_many(
        ready,
        [
            "hello",
            {"prompt": "hello", "max_tokens": 3, "seed": 5},
            {"messages": [{"role": "user", "content": "hi"}], "seed": None},
        ],
        ignore_eos=True,
    )
    finish(ready, job)
    got = {item["index"]: item for item in items(ready, job)}
    assert [got[index]["completion_tokens"] for index in range(3)] == [12, 3, 12]
    own = generate(ready, **{**COMMON, "prompt": "hello", "max_tokens": 3, "seed": 5, "ignore_eos": True})
    assert text(ready, own) == got[1]["text"]
    messages = [{"role": "user", "content": "hi"}]
    chat = generate(
        ready, **{**COMMON, "prompt": None, "messages": messages, "seed": 1002, "ignore_eos": True}
    )
    assert text(ready, chat) == got[2]["text"]


@pytest.mark.parametrize("seed", [2**64 - 2, -2])
def test_seeds_go_round(ready: FrontEnd, seed: int) -> None:
    job = generate_many(ready, ["hello"] * 4, seed=seed)
    finish(ready, job)
    got = {item["index"]: item["text"] for item in items(ready, job)}
    for index in range(4):
        alone = generate(ready, **{**COMMON, "prompt": "hello", "seed": (seed + index) % 2**64})
        assert text(ready, alone) == got[index]


def test_call_whose_common_params_are_wrong_is_refused_as_a_whole(ready: FrontEnd) -> None:
    for params, field in (
        ({"top_p": 3}, "top_p"),
        ({"prompt": "x"}, "prompt"),
        ({"requests": None}, "requests"),
        ({"requests": "x"}, "requests"),
    ):
        request = {"requests": [{"prompt": "x"}], **params}
        call = ready.connection.open_call(
            "generate_many",
            {"request": request, "guest": "a", "cache_scope": ""},
            windows=Windows(items=2),
        )
        ready.turn()
        end = ready.end(call)
        assert isinstance(end, ErrorReceived) and isinstance(end.error, InvalidArgument)
        assert end.error.details["field"] == field


def test_no_requests_end_at_once(ready: FrontEnd) -> None:
    job = generate_many(ready, [])
    ready.turn()
    end = ready.end(job)
    assert isinstance(end, ResultReceived) and end.result["completed"] == 0


def test_guest_that_gives_no_credit_holds_the_work_back(ready: FrontEnd) -> None:
    job = generate_many(ready, PROMPTS, items=3)
    turn_until_idle(ready)
    assert len(items(ready, job)) == 3
    counted = stats(ready)
    assert (counted["running"], counted["waiting"]) == (0, 0), "not one more was begun"
    assert counted["requests_waiting"] == len(PROMPTS) - 3
    ready.connection.grant(job, items=5)
    turn_until_idle(ready)
    assert len(items(ready, job)) == 5
    ready.connection.grant(job, items=len(PROMPTS))
    finish(ready, job)
    assert len(items(ready, job)) == len(PROMPTS)


def test_worker_sleeps_while_only_credit_is_missing(ready: FrontEnd) -> None:
    job = generate_many(ready, PROMPTS, items=0)
    turn_until_idle(ready)
    assert generation_of(ready).feeder and items(ready, job) == []


def test_cancel_frees_every_place_before_the_next_step(ready: FrontEnd) -> None:
    job = generate_many(ready, PROMPTS, ignore_eos=True, max_tokens=100)
    for _ in range(10):
        ready.turn()
    call = generate(ready, max_tokens=3, priority="low")
    ready.connection.cancel(job)
    ready.turn()
    end = ready.end(job)
    assert isinstance(end, ResultReceived) and end.result == {"finish_reason": "cancelled"}
    counted = stats(ready)
    assert (counted["running"], counted["waiting"], counted["requests_waiting"]) == (1, 0, 0)
    finish(ready, call)
    assert not generation_of(ready).feeder
    assert finish(ready, generate_many(ready, PROMPTS[:3]))["completed"] == 3


def test_deadline_ends_the_call_as_a_whole(ready: FrontEnd) -> None:
    job = generate_many(ready, PROMPTS, max_tokens=300, deadline_ms=0)
    turn_until_idle(ready)
    end = ready.end(job)
    assert isinstance(end, ErrorReceived) and isinstance(end.error, DeadlineExceeded)
    counted = stats(ready)
    assert (counted["running"], counted["waiting"], counted["requests_waiting"]) == (0, 0, 0)
    assert items(ready, job) == []


def test_call_of_another_guest_does_not_wait_for_the_job(ready: FrontEnd) -> None:
    generate_many(ready, PROMPTS, max_tokens=200, ignore_eos=True)
    for _ in range(10):
        ready.turn()
    assert stats(ready)["running"] == 4
    call = generate(ready, max_tokens=5)
    for _ in range(3):  # it is begun, read, and drawn
        ready.turn()
    assert ready.tokens(call) > 0


def test_calls_are_begun_before_the_prompts_of_a_job(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_begun(monkeypatch)
    generate_many(ready, PROMPTS)
    calls = [generate(ready, max_tokens=2) for _ in range(6)]
    ready.turn()
    assert begun[:6] == calls and len(begun) == 8


def test_more_prompts_are_begun_at_once_while_nobody_else_waits(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_begun(monkeypatch)
    generate_many(ready, PROMPTS[:20])
    ready.turn()
    assert len(begun) == 20
    generate_many(ready, ["x" * 5_000] * 20)
    monkeypatch.setattr(feeder_module, "BYTES_A_TURN", 9_000)
    ready.turn()
    assert len(begun) == 22


def test_long_prompts_are_begun_one_by_one_beside_other_calls(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = generate(ready, max_tokens=100, ignore_eos=True)
    ready.turn()
    begun = count_begun(monkeypatch)
    job = generate_many(ready, ["x" * feeder_module.BYTES_BESIDE_CALLS] * 5)
    for num_turns in range(1, 6):
        ready.turn()
        assert len(begun) == num_turns
    finish(ready, job)
    assert ready.end(running) is None


def test_few_prompts_are_with_the_engine_before_their_turn(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "MAX_AHEAD", 5)
    generate_many(ready, PROMPTS, max_tokens=100, ignore_eos=True)
    high = generate_many(ready, PROMPTS[:1], priority="high")
    most = 0
    for _ in range(30):
        ready.turn()
        most = max(most, generation_of(ready).engine.stats()["waiting_low"])
    assert 0 < most <= 5 + 1, "and one that had to give its place up"
    assert finish(ready, high)["completed"] == 1


def test_guests_take_turns_and_their_jobs_are_served_in_order(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str | None] = []
    submit = BatchEngine.submit

    def noted(engine: BatchEngine, call: int, request: GenerateRequest, origin: Origin) -> None:
        begun.append(f"{origin.guest} {request.prompt}")
        submit(engine, call, request, origin)

    monkeypatch.setattr(BatchEngine, "submit", noted)
    generate_many(ready, ["1", "2"], guest="a")
    generate_many(ready, ["3", "4"], guest="a")
    generate_many(ready, ["5"], guest="b")
    ready.turn()
    assert begun == ["a 1", "b 5", "a 2", "a 3", "a 4"]


def test_prompt_that_the_engine_has_no_room_for_waits(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    submit = BatchEngine.submit

    def busy(engine: BatchEngine, call: int, request: GenerateRequest, origin: Origin) -> None:
        if full and call < 0:
            raise Overloaded("full")
        submit(engine, call, request, origin)

    monkeypatch.setattr(BatchEngine, "submit", busy)
    running = generate(ready, max_tokens=30, ignore_eos=True)
    job = generate_many(ready, PROMPTS[:3])
    for _ in range(5):
        ready.turn()
    assert stats(ready)["requests_waiting"] == 3
    full = False
    assert finish(ready, job)["completed"] == 3
    finish(ready, running)


def test_guest_whose_share_of_the_queue_is_full_keeps_nobody_elses_prompts_out(
    ready: FrontEnd, loaded: LoadedModel
) -> None:
    engine = BatchEngine(loaded, EngineLimits(max_batch=2, max_waiting=4))
    ready.loop._service = Generation(engine, Codec(loaded), ready.loop._connection, "tiny")
    for _ in range(5):  # two run, three wait: of four that may, that is all a guest can have
        generate(ready, max_tokens=200, ignore_eos=True)
        ready.turn()
    full = generate_many(ready, PROMPTS[:3])
    ready.turn()
    other = generate_many(ready, PROMPTS[:1], guest="other")
    ready.turn()
    counted = stats(ready)
    assert (counted["waiting"], counted["waiting_low"], counted["requests_waiting"]) == (4, 1, 3)
    assert finish(ready, other)["completed"] == 1
    assert finish(ready, full)["completed"] == 3


def test_too_much_that_waits_is_refused(ready: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "MAX_BYTES", 10_000)
    kept, refused = generate_many(ready, ["x"] * 4, items=0), generate_many(ready, ["x" * 9000])
    ready.turn()
    end = ready.end(refused)
    assert isinstance(end, ErrorReceived) and isinstance(end.error, Overloaded) and end.error.retry_after
    ready.connection.cancel(kept)
    assert finish(ready, generate_many(ready, ["x" * 200]))["completed"] == 1


def test_too_many_calls_are_refused_but_not_by_one_guest_alone(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "MAX_BUNDLES", 4)
    calls = [generate_many(ready, ["x"], items=0) for _ in range(4)]
    other = generate_many(ready, ["x"], items=0, guest="other")
    ready.turn()
    ends = [ready.end(call) for call in (*calls, other)]
    assert [end is None for end in ends] == [True, True, True, False, True]
    assert isinstance(ends[3], ErrorReceived) and isinstance(ends[3].error, Overloaded)


def test_logprobs_come_with_each_item(ready: FrontEnd) -> None:
    job = generate_many(ready, ["hello", {"prompt": "hello", "logprobs": None}], logprobs=2)
    finish(ready, job)
    got = {item["index"]: item for item in items(ready, job)}
    tokens = [decode_logprobs(data) for data in got[0]["logprobs"]]
    assert [token.chosen.token_id for token in tokens] == unpacked(got[0]["token_ids"])
    assert all(len(token.top) == 2 for token in tokens)
    assert "logprobs" not in got[1]


def test_more_logprobs_than_an_item_has_room_for_fail_at_their_index(
    ready: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "MAX_HELD_LOGPROB_BYTES", 1000)
    long = {"prompt": "hello", "max_tokens": 300, "logprobs": 5, "ignore_eos": True}
    job = generate_many(ready, [long, "hello"])
    finish(ready, job)
    got = {item["index"]: item for item in items(ready, job)}
    assert got[0]["error"]["code"] == LimitExceeded.code
    assert "text" in got[1]
    assert stats(ready)["running"] == 0


def test_item_that_the_front_cannot_take_fails_at_its_index(ready: FrontEnd) -> None:
    ready.loop._connection._answers.max_head_bytes = 700
    job = generate_many(ready, [{"prompt": "hello", "max_tokens": 200}, "hello"], ignore_eos=True)
    result = finish(ready, job)
    got = {item["index"]: item for item in items(ready, job)}
    assert got[0]["error"]["code"] == LimitExceeded.code and "text" in got[1]
    assert (result["completed"], result["failed"]) == (1, 1)


def count_begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls that were given to an engine, in order."""
    begun: list[int] = []
    submit = BatchEngine.submit

    def counted(engine: BatchEngine, call: int, request: GenerateRequest, origin: Origin) -> None:
        begun.append(call)
        submit(engine, call, request, origin)

    monkeypatch.setattr(BatchEngine, "submit", counted)
    return begun


def test_curtailed_call_ends_with_what_was_begun(ready: FrontEnd) -> None:
    call = generate_many(ready, PROMPTS, items=5)
    other = generate_many(ready, PROMPTS[:6])
    while not items(ready, call):
        ready.turn()
    ready.connection.open_call("curtail", {"call": call})
    result = finish(ready, call)
    assert result["completed"] == 5 == len(items(ready, call))
    assert result["failed"] == 0
    assert finish(ready, other)["completed"] == 6
    ready.connection.open_call("curtail", {"call": call})  # it has ended already
    assert finish(ready, generate_many(ready, PROMPTS[:3]))["completed"] == 3
    assert generation_of(ready).feeder.num_waiting == 0


def test_call_that_is_curtailed_before_it_has_begun_ends_at_once(ready: FrontEnd) -> None:
    call = generate_many(ready, PROMPTS, items=0)
    ready.connection.open_call("curtail", {"call": call})
    result = finish(ready, call)
    assert (result["completed"], items(ready, call)) == (0, [])


def test_held_call_begins_nothing_and_goes_on_with_the_same_answers(ready: FrontEnd) -> None:
    expected = generate_many(ready, PROMPTS)
    finish(ready, expected)
    call = generate_many(ready, PROMPTS)
    while not items(ready, call):
        ready.turn()
    ready.connection.open_call("hold", {"call": call})
    ready.turn()
    num_items, num_steps = len(items(ready, call)), generation_of(ready).stats()["steps_total"]
    other = generate(ready, max_tokens=3)
    while ready.end(other) is None:
        ready.turn()
    assert generation_of(ready).wait_s is None and generation_of(ready).stats()["running"] == 0
    assert len(items(ready, call)) == num_items < len(PROMPTS)
    assert generation_of(ready).stats()["steps_total"] - num_steps < 10
    ready.connection.open_call("go_on", {"call": call})
    finish(ready, call)

    def texts(number: int) -> dict[int, str]:
        return {item["index"]: item["text"] for item in items(ready, number)}

    assert texts(call) == texts(expected)
