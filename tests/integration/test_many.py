"""Many prompts as one call, with a host, a worker and a tiny model of their own: what else goes on meanwhile, and what goes wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import Client, Outcome, Request
from mlxbridge.errors import ContextTooLong, DeadlineExceeded, InvalidArgument, WorkerLost
from mlxbridge.guest.many import MAX_PORTION_PROMPTS
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host

PLACES = 8
LONG = 400


@pytest.fixture(scope="module")
def tiny_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder)
    save_tokenizer(byte_level_tokenizer(), folder)
    with run_host(TRANSPORTS[0], "--max-batch", str(PLACES), models=(str(folder),)) as running:
        with running.client() as client:
            client.load_model("tiny", timeout=120)
        yield running


@pytest.fixture
def client(tiny_host: HostProcess) -> Iterator[Client]:
    with tiny_host.client(timeout=120) as client:
        yield client


def figures(client: Client) -> dict[str, Any]:
    return dict(client.status().models[0].details)


def until(client: Client, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while not condition(found := figures(client)):
        assert time.monotonic() < deadline, found
    return found


def is_idle(found: dict[str, Any]) -> bool:
    return bool(found["running"] == found["waiting"] == found["requests_waiting"] == 0)


def test_five_hundred_prompts_are_answered_as_each_is_alone(client: Client) -> None:
    words = ("The quick brown fox", "hello", "naïve café", "a , b", "two  spaces")
    prompts: list[Request] = [
        {"prompt": f"{words[number % 5]} {number % 90}" * (1 + number % 3), "temperature": 0.9 * (number % 2)}
        for number in range(500)
    ]
    found = {outcome.index: outcome for outcome in client.generate_many(prompts, seed=77, max_tokens=6)}
    assert sorted(found) == list(range(500))
    for index in range(0, 500, 7):  # some of each word, length and temperature
        given = prompts[index]
        alone = client.generate(seed=77 + index, max_tokens=6, **given)  # type: ignore[call-overload]
        assert (alone.text, alone.token_ids) == (found[index].text, found[index].token_ids)
    assert len({outcome.text for outcome in found.values()}) > 100


def test_call_amid_a_job_has_its_answer_before_any_place_comes_free(client: Client) -> None:
    before = figures(client)["preemptions_total"]
    with client.generate_many(["hello"] * 2 * PLACES, max_tokens=LONG, ignore_eos=True, seed=1) as outcomes:
        until(client, lambda found: found["running"] == PLACES and found["waiting"] == PLACES)
        for _ in range(3):
            client.generate("hello", max_tokens=3, ignore_eos=True)
        found = figures(client)
        assert found["running"] + found["waiting"] + found["requests_waiting"] == 2 * PLACES, "none had ended"
        assert found["preemptions_total"] > before
        texts = {outcome.index: outcome.text for outcome in outcomes}
    again = client.generate("hello", max_tokens=LONG, ignore_eos=True, seed=1 + PLACES - 1)
    assert texts[PLACES - 1] == again.text, "the one that gave its place up"


def test_whoever_does_not_read_holds_the_work_back(client: Client) -> None:
    before = figures(client)["tokens_total"]
    outcomes = client.generate_many((f"{number}" for number in range(2000)), max_tokens=1, ignore_eos=True)
    next(outcomes)
    found = until(client, is_idle)
    assert found["tokens_total"] - before <= 2 * MAX_PORTION_PROMPTS
    assert sum(1 for _ in outcomes) == 1999
    assert outcomes.num_done == 2000


@pytest.mark.parametrize("how", ["close", "leave the block", "drop", "close the client"])
def test_places_are_free_when_nobody_waits(tiny_host: HostProcess, client: Client, how: str) -> None:
    other = tiny_host.client(timeout=60)
    outcomes = other.generate_many(["hello"] * 100, max_tokens=LONG, ignore_eos=True)
    until(client, lambda found: found["running"] == PLACES)
    if how == "close":
        outcomes.close()
    elif how == "leave the block":
        with outcomes:
            pass
    elif how == "drop":
        del outcomes
        other.ping()
    else:
        other.close()
    until(client, is_idle)
    other.close()


def test_bad_prompt_fails_alone(client: Client) -> None:
    prompts: list[Any] = ["hello", "hello " * 2000, {"prompt": "x", "top_p": 3}, [7, 999], [], "hello"]
    found = {outcome.index: outcome for outcome in client.generate_many(prompts, max_tokens=3)}
    errors = {index: type(outcome.error) for index, outcome in found.items() if outcome.error is not None}
    assert errors == {1: ContextTooLong, 2: InvalidArgument, 3: InvalidArgument, 4: InvalidArgument}
    assert found[0].text == found[5].text


def test_timeout_ends_all_of_it(client: Client) -> None:
    before = figures(client)["expired_total"]
    with pytest.raises(DeadlineExceeded) as caught:
        list(client.generate_many(["hello"] * 500, max_tokens=LONG, ignore_eos=True, timeout=0.3))
    assert caught.value.details["next_index"] == MAX_PORTION_PROMPTS
    found = until(client, is_idle)
    assert found["expired_total"] > before


def test_logprobs_and_priority_are_for_many_too(client: Client) -> None:
    (outcome,) = client.generate_many(["hello"], max_tokens=4, logprobs=2, priority="high", ignore_eos=True)
    alone = client.generate("hello", max_tokens=4, logprobs=2, ignore_eos=True)
    assert outcome.logprobs == alone.logprobs and len(alone.logprobs or ()) == 4
    assert outcome.usage is not None and outcome.usage.completion_tokens == 4


def test_worker_that_dies_takes_no_outcome_back_and_says_which_are_missing(
    tiny_host: HostProcess, client: Client
) -> None:
    prompts: list[Any] = [{"prompt": "hello", "max_tokens": 2 + number % 20} for number in range(400)]
    taken: dict[int, Outcome] = {}
    with pytest.raises(WorkerLost) as caught:
        for outcome in client.generate_many(prompts, ignore_eos=True, seed=5):
            taken[outcome.index] = outcome
            if len(taken) == 20:
                os.kill(tiny_host.worker_pid(client), signal.SIGKILL)
    assert caught.value.retryable
    details = caught.value.details
    missing = [*details["unanswered"], *range(details["next_index"], 400)]
    assert sorted([*missing, *taken]) == list(range(400)) and len(taken) >= 20
    again: list[Any] = [{**prompts[index], "seed": 5 + index} for index in missing]
    for outcome in client.generate_many(again, ignore_eos=True):
        taken[missing[outcome.index]] = outcome
    assert all(
        outcome.usage is not None and outcome.usage.completion_tokens == 2 + index % 20
        for index, outcome in taken.items()
    )
