"""Many prompts behind one iterator, against a host that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client, Outcome, Request
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    RemoteProtocolError,
    UsageError,
    WorkerLost,
)
from mlxbridge.guest import many as many_module
from mlxbridge.guest.many import MAX_PORTION_PROMPTS
from mlxbridge.protocol import HostConnection, Limits
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host


class Answers:
    """Answers each request with its own prompt and seed; the prompt of a request may say what goes wrong."""

    def __init__(self) -> None:
        self.params: list[dict[str, Any]] = []
        self.deadlines: list[int | None] = []
        self.sizes: list[int] = []
        self.cancelled: list[int] = []
        self.changes: dict[str, Any] = {}

    def __call__(self, connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallCancelled):
            self.cancelled.append(event.call)
            connection.finish(event.call, {"finish_reason": "cancelled"})
        if not isinstance(event, CallOpened):
            return
        requests = event.params["requests"]
        self.params.append({name: value for name, value in event.params.items() if name != "requests"})
        self.sizes.append(len(requests))
        self.deadlines.append(event.deadline_ms)
        if not (granted := connection.items_granted(event.call)):
            return  # cancelled before it was looked at
        assert granted == len(requests)
        for index in reversed(range(len(requests))):  # the order is the host's to choose
            request = requests[index]
            if not self._answer(connection, event, index, request):
                return
        connection.finish(event.call, {"completed": len(requests), "failed": 0})

    def _answer(
        self, connection: HostConnection, event: CallOpened, index: int, request: dict[str, Any]
    ) -> bool:
        item: dict[str, Any] = {
            "index": index,
            "text": str({**event.params, **request, "requests": None, "index": index}),
            "token_ids": struct.pack("<2I", index, 70_000),
            "finish_reason": "length",
            "prompt_tokens": 3,
            "completion_tokens": 2,
        }
        prompt = request.get("prompt")
        if prompt == "hang":
            return False
        if prompt == "lost":
            connection.fail(event.call, WorkerLost("the worker died"))
            return False
        if prompt == "close":
            connection.close()
            return False
        if prompt == "away":
            connection.go_away("restarting", 30_000)
        if prompt == "end":
            connection.finish(event.call, {})
            return False
        if prompt == "bad":
            refused = {"code": 18, "name": "InvalidArgument", "message": "prompt is bad"}
            item = {"index": index, "error": refused}
        if prompt == "garbled":
            item = {**item, **self.changes}
        connection.send_item(event.call, item)
        if prompt == "twice":
            connection.send_item(event.call, item)
        return True


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def host(path: str, answers: Answers) -> Iterator[ScriptHost]:
    with script_host(path, answers) as running:
        yield running


class Stepped:
    """An async iterator, moved from outside its loop."""

    def __init__(self, runner: asyncio.Runner, outcomes: Any) -> None:
        self.runner, self.outcomes = runner, outcomes

    def __iter__(self) -> Stepped:
        return self

    def __next__(self) -> Outcome:
        try:
            outcome: Outcome = self.runner.run(self.outcomes.__anext__())
            return outcome
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self.runner.run(self.outcomes.aclose())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outcomes, name)


Many = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest, host: ScriptHost) -> Iterator[Many]:
    """``generate_many`` of either client."""
    if request.param == "blocking":
        with Client(host.url, timeout=20) as client:
            yield client.generate_many
        return
    with asyncio.Runner() as runner:
        many = AsyncClient(host.url, timeout=20)
        yield lambda *given, **options: Stepped(runner, runner.run(many.generate_many(*given, **options)))
        runner.run(many.close())


def test_every_prompt_has_one_outcome_with_its_index(ask: Many, answers: Answers) -> None:
    prompts = [f"prompt {number}" for number in range(1000)]
    outcomes = ask(prompts, max_tokens=5)
    assert (outcomes.num_done, outcomes.num_total) == (0, 1000)
    found = {outcome.index: outcome for outcome in outcomes}
    assert (outcomes.num_done, outcomes.num_total) == (1000, 1000)
    assert sorted(found) == list(range(1000))
    assert all(f"'prompt': 'prompt {index}'" in outcome.text for index, outcome in found.items())
    assert max(answers.sizes) == MAX_PORTION_PROMPTS and sum(answers.sizes) == 1000
    assert all(params == {"max_tokens": 5} for params in answers.params)
    one = found[700]
    assert one.token_ids[1] == 70_000 and one.error is None and one.usage is not None
    assert (one.usage.finish_reason, one.usage.completion_tokens, str(one)) == ("length", 2, one.text)


def test_ten_thousand_prompts_are_read_and_sent_as_they_are_needed(ask: Many, answers: Answers) -> None:
    most = taken = 0

    def prompts() -> Iterator[str]:
        for number in range(10_000):
            nonlocal most
            most = max(most, number - taken)
            yield f"The {number}"

    outcomes = ask(prompts())
    assert outcomes.num_total is None
    indices = set()
    for outcome in outcomes:
        taken += 1
        indices.add(outcome.index)
    assert indices == set(range(10_000))
    assert most <= 2 * MAX_PORTION_PROMPTS
    assert max(answers.sizes) <= MAX_PORTION_PROMPTS


def test_who_does_not_read_is_sent_no_more(ask: Many, answers: Answers) -> None:
    outcomes = ask(f"{number}" for number in range(5000))
    next(outcomes)
    time.sleep(0.05)  # whatever is under way may come
    assert sum(answers.sizes) <= 2 * MAX_PORTION_PROMPTS
    outcomes.close()
    assert list(outcomes) == []


def test_one_long_answer_does_not_keep_later_prompts_waiting(ask: Many, answers: Answers) -> None:
    prompts = ["fine"] * (3 * MAX_PORTION_PROMPTS)
    prompts[MAX_PORTION_PROMPTS // 2] = "hang"  # and with it those before, in the order of this host
    outcomes = ask(prompts)
    num_done = 0
    with pytest.raises(DeadlineExceeded):
        for _ in ask(prompts, timeout=0.3):
            num_done += 1
    assert num_done == 3 * MAX_PORTION_PROMPTS - MAX_PORTION_PROMPTS // 2 - 1
    outcomes.close()


def test_portions_are_bounded_in_bytes_and_so_is_what_is_unanswered(
    ask: Many, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_module, "MAX_PORTION_BYTES", 10_000)
    monkeypatch.setattr(many_module, "MAX_UNANSWERED_BYTES", 25_000)
    outcomes = ask("x" * 3000 for _ in range(20))
    next(outcomes)
    time.sleep(0.05)
    assert answers.sizes == [3, 3, 3]
    assert sum(1 for _ in outcomes) == 19
    assert answers.sizes == [3] * 6 + [2]


def test_prompt_may_be_text_ids_a_chat_or_have_options_of_its_own(ask: Many) -> None:
    chat = [{"role": "user", "content": "hi"}]
    own: Request = {"prompt": [1, 2], "max_tokens": 9, "stop": "x", "top_k": None}
    found = {
        outcome.index: outcome.text
        for outcome in ask(["text", (3, 4), chat, own, {"messages": chat, "seed": 4}], seed=10, top_k=1)
    }
    assert "'prompt': 'text'" in found[0]
    assert str(struct.pack("<2I", 3, 4)) in found[1]
    assert f"'messages': {chat}" in found[2]
    assert str(struct.pack("<2I", 1, 2)) in found[3]
    assert "'max_tokens': 9" in found[3] and "'stop': ['x']" in found[3] and "'top_k': 1" in found[3]
    assert "'seed': 4" in found[4] and "'seed': 10" in found[3]


def test_each_part_has_the_seed_of_its_first_prompt(ask: Many, answers: Answers) -> None:
    list(ask(["x"] * 600, seed=(1 << 64) - 200, priority="normal", timeout=9))
    assert answers.params == [
        {"seed": seed, "priority": "normal"} for seed in ((1 << 64) - 200, 56, 56 + MAX_PORTION_PROMPTS)
    ]
    assert all(deadline is not None and 0 < deadline <= 9000 for deadline in answers.deadlines)


def test_reasoning_and_tool_calls_are_told_apart(ask: Many, answers: Answers) -> None:
    answers.changes = {"parts": [[1, "Hm. "], [2, 0, "id", "add", '{"a": 1}'], [1, "So."], [9]]}
    plain, apart = sorted(ask(["fine", "garbled"]), key=lambda outcome: outcome.index)
    assert (plain.reasoning, plain.tool_calls) == ("", ())
    assert apart.reasoning == "Hm. So."
    (call,) = apart.tool_calls
    assert (call.name, call.arguments) == ("add", {"a": 1})


def test_bad_prompt_has_an_error_and_ends_no_other(ask: Many) -> None:
    prompts: list[Any] = [
        "fine",
        "bad",
        3,
        {"prompt": "x", "temprature": 1},
        {"prompt": "x", "timeout": 3},
        {"prompt": "x", "messages": []},
        [{"role": "user", "content": object()}],
        "\ud800",
        [-1],
        None,
        "x" * 5_000_000,
        "fine too",
    ]
    found = {outcome.index: outcome for outcome in ask(prompts)}
    assert sorted(found) == list(range(12))
    assert {index for index, outcome in found.items() if outcome.error is None} == {0, 11}
    assert isinstance(found[1].error, InvalidArgument)
    assert (str(found[1]), found[1].text) == ("InvalidArgument: prompt is bad", "")
    assert isinstance(found[10].error, LimitExceeded)
    fields = {}
    for index in range(2, 10):
        error = found[index].error
        assert isinstance(error, UsageError), index
        fields[index] = error.details["field"]
    assert fields == {
        2: "prompt",
        3: "temprature",
        4: "timeout",
        5: "prompt",
        6: "messages",
        7: "prompt",
        8: "prompt",
        9: "prompt",
    }


def test_nothing_but_bad_prompts_is_read_as_it_is_needed(ask: Many, answers: Answers) -> None:
    most = taken = 0

    def prompts() -> Iterator[Any]:
        for number in range(2000):
            nonlocal most
            most = max(most, number - taken)
            yield number

    for outcome in ask(prompts()):
        taken += 1
        assert outcome.error is not None
    assert taken == 2000 and most <= 2 and answers.sizes == []


@pytest.mark.parametrize(
    ("prompts", "options", "field"),
    [
        ("one text", {}, "prompts"),
        (b"bytes", {}, "prompts"),
        ({"prompt": "one"}, {}, "prompts"),
        (3, {}, "prompts"),
        (["x"], {"temprature": 1}, "temprature"),
        (["x"], {"n": 2}, "n"),
        (["x"], {"messages": []}, "messages"),
        (["x"], {"stop": b"x"}, "stop"),
        (["x"], {"model": "\ud800"}, "model"),
        (["x"], {"timeout": -1}, "timeout"),
    ],
)
def test_wrong_option_is_refused_before_anything_is_sent(
    ask: Many, host: ScriptHost, prompts: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(UsageError) as caught:
        ask(prompts, **options)
    assert caught.value.details["field"] == field
    assert host.connections == []


def test_options_that_leave_no_room_for_a_prompt_are_to_blame_for_it(ask: Many, answers: Answers) -> None:
    with pytest.raises(LimitExceeded, match="options for all prompts take 50000"):
        ask(["x", "y"], stop=["x" * 5_000_000])
    assert answers.sizes == []


def test_no_prompts_have_no_outcomes(ask: Many, answers: Answers) -> None:
    assert list(ask([])) == [] and list(ask(iter(()))) == []
    assert answers.sizes == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_close_cancels_what_is_unanswered(ask: Many, answers: Answers) -> None:
    outcomes = ask(["hang", "fine", "fine"])
    assert {next(outcomes).index, next(outcomes).index} == {1, 2}
    outcomes.close()
    until(lambda: len(answers.cancelled) == 1)
    assert list(outcomes) == []


def test_losing_the_last_reference_cancels(ask: Many, answers: Answers) -> None:
    outcomes = ask(["hang", "fine"], timeout=60)
    assert next(outcomes).index == 1
    del outcomes
    gc.collect()
    with contextlib.suppress(BridgeError):
        next(ask(["fine"]))  # the loop, or the link, has to turn once
    until(lambda: len(answers.cancelled) == 1)


def test_timeout_is_for_all_of_it(ask: Many, answers: Answers) -> None:
    start = time.monotonic()
    taken = []
    with pytest.raises(DeadlineExceeded, match="generate_many: no end within 0.2 s") as caught:
        for outcome in ask(["hang", "fine", "fine"], timeout=0.2):
            taken.append(outcome.index)
    assert time.monotonic() - start < 5
    assert sorted(taken) == [1, 2]
    assert caught.value.details == {"unanswered": [0], "next_index": 3}
    until(lambda: len(answers.cancelled) == 1)


@pytest.mark.parametrize(("prompt", "error"), [("lost", WorkerLost), ("close", ConnectionLost)])
def test_error_that_ends_all_comes_after_what_came_before_and_says_what_is_missing(
    ask: Many, prompt: str, error: type[BridgeError]
) -> None:
    prompts = ["fine"] * 1000
    prompts[300] = prompt
    taken = set()
    with pytest.raises(error) as caught:
        for outcome in ask(prompts):
            taken.add(outcome.index)
    assert caught.value.retryable
    details = caught.value.details
    missing = {*details["unanswered"], *range(details["next_index"], 1000)}
    assert missing | taken == set(range(1000)) and not missing & taken
    assert 300 in missing
    if prompt == "lost":  # what a host had not yet sent when the link broke is lost with it
        assert set(range(301, 512)) <= taken


def test_what_was_sent_is_answered_though_nothing_more_can_be_sent(ask: Many) -> None:
    prompts = ["fine"] * 1000
    prompts[MAX_PORTION_PROMPTS - 1] = "away"  # this host begins with the last one
    taken = set()
    with pytest.raises(ConnectionLost, match="going away") as caught:
        for outcome in ask(prompts):
            taken.add(outcome.index)
    assert taken == set(range(MAX_PORTION_PROMPTS))
    details = caught.value.details
    missing = {*details["unanswered"], *range(details["next_index"], 1000)}
    assert missing == set(range(1000)) - taken


def test_error_of_the_input_cancels_and_is_raised(ask: Many, answers: Answers) -> None:
    def prompts() -> Iterator[str]:
        yield "hang"
        yield from ["fine"] * (MAX_PORTION_PROMPTS - 1)
        raise KeyError("the file is gone")

    outcomes = ask(prompts())
    with pytest.raises(KeyError, match="the file is gone"):
        list(outcomes)
    until(lambda: len(answers.cancelled) == 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 5},
        {"index": None},
        {"index": True},
        {"index": -1},
        {"text": 3},
        {"token_ids": [1, 2]},
        {"token_ids": b"123"},
        {"logprobs": [b"1"]},
        {"logprobs": ["1", "2"]},
        {"parts": "none"},
        {"parts": [[1]]},
        {"text": None, "error": "none"},
    ],
)
def test_host_that_sends_no_outcome_is_at_fault(ask: Many, answers: Answers, changes: dict[str, Any]) -> None:
    answers.changes = changes
    with pytest.raises(RemoteProtocolError):
        list(ask(["garbled"]))


@pytest.mark.parametrize("prompt", ["twice", "end"])
def test_host_that_answers_twice_or_too_few_is_at_fault(ask: Many, prompt: str) -> None:
    with pytest.raises(RemoteProtocolError):
        list(ask(["fine", prompt]))


async def test_cancelled_task_cancels_what_is_unanswered(host: ScriptHost, answers: Answers) -> None:
    async with AsyncClient(host.url) as client:
        outcomes = await client.generate_many(["hang", "fine"])
        assert (await anext(outcomes)).index == 1
        task = asyncio.create_task(anext(outcomes))
        await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="one task at a time"):
            await anext(outcomes)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not answers.cancelled:
            await asyncio.sleep(0.001)


def test_limits_of_the_host_bound_a_part(path: str, answers: Answers) -> None:
    with (
        script_host(path, answers, Limits(max_head_bytes=65_536)) as host,
        Client(host.url, timeout=20) as client,
    ):
        prompts = ["x" * 20_000] * 7 + ["x" * 64_000, "x" * 66_000]
        found = {outcome.index: outcome for outcome in client.generate_many(prompts, stop=["y" * 100])}
    assert answers.sizes == [3, 3, 1, 1]
    assert isinstance(found[8].error, LimitExceeded) and len(found) == 9
