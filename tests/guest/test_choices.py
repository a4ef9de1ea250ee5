"""Several answers to one prompt: n calls in one write, which end together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client, Generation
from mlxbridge.errors import ConnectionLost, DeadlineExceeded, LimitExceeded, Overloaded, UsageError
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.protocol import HostConnection, Limits
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host

RESULT = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 2, "model": "script"}
SEED = 100


class Answers:
    """Answers each call with its seed; the prompt says what goes wrong with which choice."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.prompts: list[str] = []
        self.cancelled: list[int] = []

    def __call__(self, connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallCancelled):
            self.cancelled.append(event.call)
            connection.finish(event.call, {**RESULT, "finish_reason": "cancelled"})
        if not isinstance(event, CallOpened) or event.method != "generate":
            return
        self.opened.append(event.call)
        choice = event.params.get("seed", SEED) - SEED
        prompt = event.params["prompt"]
        self.prompts.append(prompt)
        if prompt == f"hang {choice}":
            connection.send_tokens([event.call], [[choice]], ["only "])
        elif prompt == "fail 2" and choice != 2:
            connection.send_tokens([event.call], [[choice]], ["only "])  # and nothing more comes
        elif prompt == "fail 2" or (prompt.startswith("fail 0") and choice == 0):
            connection.fail(event.call, Overloaded("busy"))
        elif prompt.startswith("fail 0"):
            pass
        else:
            # More rows than the first credit, in one frame: credit must be given back for each call.
            connection.send_tokens([event.call] * 600, [[number] for number in range(600)], ["."] * 600)
            connection.send_tokens([event.call], [[choice]], [str(choice)])
            connection.finish(event.call, RESULT)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def host(path: str, answers: Answers) -> Iterator[ScriptHost]:
    with script_host(path, answers, Limits(max_calls=8)) as running:
        yield running


Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest, host: ScriptHost) -> Iterator[Ask]:
    """``generate`` of either client, on one connection."""
    if request.param == "blocking":
        with Client(host.url, timeout=20) as client:
            yield client.generate
        return
    with asyncio.Runner() as runner:
        many = AsyncClient(host.url, timeout=20)
        yield lambda *given, **options: runner.run(many.generate(*given, **options))
        runner.run(many.close())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_answers_come_in_order_with_the_next_seeds(ask: Ask) -> None:
    answers: list[Generation] = ask("x", n=5, seed=SEED)
    assert [answer.text for answer in answers] == ["." * 600 + str(choice) for choice in range(5)]
    assert answers[3].token_ids == [*range(600), 3]


def test_one_answer_is_a_list_too(ask: Ask) -> None:
    assert [answer.text[-1] for answer in ask("x", n=1, seed=SEED)] == ["0"]
    assert len(ask("x", n=3)) == 3


def test_one_that_fails_cancels_the_others(ask: Ask, answers: Answers) -> None:
    with pytest.raises(Overloaded, match="busy"):
        ask("fail 2", n=4, seed=SEED)
    until(lambda: len(answers.cancelled) == 3)
    assert answers.cancelled == [answers.opened[0], answers.opened[1], answers.opened[3]]
    assert len(ask("x", n=8, seed=SEED)) == 8  # every place is free again


def test_first_that_fails_before_the_last_has_left_cancels_the_others(
    host: ScriptHost, answers: Answers
) -> None:
    with Client(host.url, timeout=20) as client:

        def read() -> None:
            with contextlib.suppress(ConnectionLost):
                client.generate("hang 0", seed=SEED)

        reading = threading.Thread(target=read)
        reading.start()
        until(lambda: len(answers.opened) == 1)
        with pytest.raises(Overloaded, match="busy"):
            client.generate("fail 0" + "x" * 2_000_000, n=4, seed=SEED)
        until(lambda: len(answers.cancelled) == 3)
        assert len(client.generate("x", n=7)) == 7
    reading.join()


def test_timeout_covers_all(ask: Ask, answers: Answers) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask("hang 1", n=3, seed=SEED, timeout=0.2)
    assert time.monotonic() - start < 5
    until(lambda: len(answers.cancelled) == 1)  # the others were over
    assert answers.cancelled == [answers.opened[1]]


def test_more_than_the_host_allows_at_once_is_refused_before_anything_is_sent(
    ask: Ask, answers: Answers
) -> None:
    with pytest.raises(LimitExceeded, match="9 calls at once, but the host allows 8"):
        ask("x", n=9)
    assert answers.opened == []


def test_stream_of_several_is_refused(ask: Ask, answers: Answers) -> None:
    with pytest.raises(UsageError, match="n: a stream is one answer; open 2 streams"):
        ask("x", n=2, stream=True)
    assert answers.opened == []


def test_stream_is_one_by_itself(answers: Answers, host: ScriptHost) -> None:
    given: dict[str, Any] = {"stream": True}
    with Client(host.url) as client, pytest.raises(UsageError, match="^stream: .* a stream without it"):
        client.stream("x", **given)
    assert answers.opened == []


def test_wrong_name_is_refused_before_anything_is_sent(ask: Ask, host: ScriptHost) -> None:
    with pytest.raises(UsageError, match="did you mean 'max_tokens'"):
        ask("x", max_token=2)
    assert host.connections == []


def test_several_wait_until_the_host_allows_so_many(host: ScriptHost, answers: Answers) -> None:
    with Client(host.url, timeout=20) as client:
        held = [client.stream("hang 0", seed=SEED) for _ in range(6)]
        with pytest.raises(DeadlineExceeded):
            client.generate("x", n=3, timeout=0.05)
        assert len(client.generate("x", n=2)) == 2
        held.pop().close()
        assert len(client.generate("x", n=3)) == 3
        for stream in held:
            stream.close()


async def test_several_async_calls_wait_in_turn(host: ScriptHost, answers: Answers) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        held = [await client.stream("hang 0", seed=SEED) for _ in range(7)]
        asked = {"eight": 8, "five": 5, "two": 2}
        tasks = [asyncio.create_task(client.generate(name, n=n, seed=SEED)) for name, n in asked.items()]
        await asyncio.sleep(0)
        for stream in held:
            await stream.aclose()
        assert [len(given) for given in await asyncio.gather(*tasks)] == [8, 5, 2]
        assert answers.prompts[7:] == ["eight"] * 8 + ["five"] * 5 + ["two"] * 2


async def test_whoever_wants_one_call_does_not_overtake_who_waits_for_many(
    host: ScriptHost, answers: Answers
) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        held = await client.stream("hang 0", seed=SEED)
        many = asyncio.create_task(client.generate("many", n=8, seed=SEED))
        await asyncio.sleep(0)
        one = asyncio.create_task(client.generate("one", seed=SEED))
        late = asyncio.create_task(client.generate("late", seed=SEED))
        await asyncio.sleep(0)
        late.cancel()
        await held.aclose()
        await asyncio.gather(many, one)
        assert answers.prompts[1:] == ["many"] * 8 + ["one"]


async def test_cancelled_task_cancels_all_its_calls(host: ScriptHost, answers: Answers) -> None:
    async with AsyncClient(host.url) as client:
        task = asyncio.create_task(client.generate("fail 2", n=2, seed=SEED))
        while len(answers.opened) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while len(answers.cancelled) < 2:
            await asyncio.sleep(0.001)


def test_all_calls_leave_in_one_write(host: ScriptHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(host.url, timeout=20) as client:
        client.ping()
        assert client._connector.link is not None
        wire = client._connector.link._driver._wire
        sent: list[int] = []
        write = wire._socket.send

        class Counting:
            def send(self, data: Any) -> int:
                sent.append(len(data))
                return write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(socket, name)

        socket = wire._socket
        monkeypatch.setattr(wire, "_socket", Counting())
        client._connector.link.open("generate", [{"prompt": "hang 0"}] * 5, NO_PAYLOADS, None, None)
        assert len(sent) == 1
