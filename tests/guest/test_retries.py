"""Calls that are begun again: by themselves, or because ``retry`` says so, over a real socket and both clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    Gone,
    HostNotFound,
    InvalidArgument,
    Overloaded,
    TransportError,
    Unavailable,
    UsageError,
    WorkerLost,
)
from mlxbridge.guest import retries as retries_module
from mlxbridge.guest.retries import NUM_FREE, RESTART_S, START_S, Retries, is_repeatable
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host

WORDS = ["one ", "two ", "three ", "four"]
RESULT = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 4, "model": "script"}

Ask = Callable[..., str]


class Failing:
    """Answers in four words, after so many failures, each behind so many words."""

    def __init__(self, num_failures: int = 1, num_words: int = 0) -> None:
        self.num_opened = 0
        self.words = list(WORDS)
        self._num_failures, self._num_words = num_failures, num_words
        self.error: BridgeError | None = WorkerLost("the process has died")

    def __call__(self, connection: HostConnection, event: Event) -> None:
        if not isinstance(event, CallOpened):
            return
        self.num_opened += 1
        if self.num_opened > self._num_failures:
            # In rows of two words, so that what was had ends amid one.
            for start in range(0, len(self.words), 2):
                ids = [ord(word[0]) for word in self.words[start : start + 2]]
                connection.send_tokens([event.call], [ids], ["".join(self.words[start : start + 2])])
            connection.finish(event.call, RESULT)
            return
        for word in WORDS[: self._num_words]:
            connection.send_tokens([event.call], [[ord(word[0])]], [word])
        if self.error is not None:
            connection.fail(event.call, self.error)
        else:
            connection.close()


def ask_blocking(url: str, *, stream: bool, retry: int, **options: Any) -> str:
    with Client(url, timeout=20, retry=retry) as client:
        if not stream:
            return str(client.generate("count", **options))
        with client.stream("count", **options) as chunks:
            text = "".join(chunk.text for chunk in chunks)
            assert chunks.text == text and chunks.generation.text == text
            assert chunks.generation.token_ids == [ord(word[0]) for word in text.split()]
            return text


def ask_in_a_task(url: str, *, stream: bool, retry: int, **options: Any) -> str:
    async def ask() -> str:
        async with AsyncClient(url, timeout=20, retry=retry) as client:
            if not stream:
                return str(await client.generate("count", **options))
            async with await client.stream("count", **options) as chunks:
                text = "".join([chunk.text async for chunk in chunks])
                assert chunks.text == text and chunks.generation.text == text
                assert chunks.generation.token_ids == [ord(word[0]) for word in text.split()]
                return text

    return asyncio.run(ask())


@pytest.fixture(params=[ask_blocking, ask_in_a_task], ids=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    yield request.param


@pytest.mark.parametrize("stream", [False, True])
def test_call_that_fails_is_begun_again_as_often_as_retry_says(path: str, ask: Ask, stream: bool) -> None:
    react = Failing(2)
    with script_host(path, react) as host:
        assert ask(host.url, stream=stream, retry=2) == "".join(WORDS)
        assert react.num_opened == 3
    with pytest.raises(WorkerLost), script_host(f"{path}2", Failing(2)) as host:
        ask(host.url, stream=stream, retry=1)


def test_option_comes_before_the_clients_own(path: str) -> None:
    react = Failing(2)
    with script_host(path, react) as host, Client(host.url, timeout=20, retry=2) as client:
        with pytest.raises(WorkerLost):
            client.generate("count", retry=0)
        assert client.generate("count", retry=1).text == "".join(WORDS)
    assert react.num_opened == 3


@pytest.mark.parametrize("options", [{"seed": 3}, {"temperature": 0}, {}], ids=["seed", "greedy", "left out"])
@pytest.mark.parametrize("num_words", [1, 2, 3])
def test_stream_that_can_be_repeated_goes_on_behind_what_was_had(
    path: str, ask: Ask, options: dict[str, Any], num_words: int
) -> None:
    with script_host(path, Failing(num_words=num_words)) as host:
        assert ask(host.url, stream=True, retry=1, **options) == "".join(WORDS)


def test_stream_that_cannot_be_repeated_ends_with_its_error(path: str, ask: Ask) -> None:
    react = Failing(num_words=1)
    with script_host(path, react) as host, pytest.raises(WorkerLost, match="temperature=0 or a seed="):
        ask(host.url, stream=True, retry=5, temperature=0.7)
    assert react.num_opened == 1


@pytest.mark.parametrize("words", [["one ", "three "], ["one "]], ids=["another word", "an earlier end"])
def test_stream_whose_repetition_is_another_one_ends_with_its_error(
    path: str, ask: Ask, words: list[str]
) -> None:
    react = Failing(num_words=2)
    react.words = words
    with script_host(path, react) as host, pytest.raises(WorkerLost, match="the answer began otherwise"):
        ask(host.url, stream=True, retry=1, seed=1)
    assert react.num_opened == 2


def test_whole_answer_is_begun_again_whatever_had_come(path: str, ask: Ask) -> None:
    with script_host(path, Failing(num_words=2)) as host:
        assert ask(host.url, stream=False, retry=1, temperature=0.7) == "".join(WORDS)


@pytest.mark.parametrize("stream", [False, True])
def test_call_of_which_nothing_came_before_the_link_broke_is_begun_again_by_itself(
    path: str, ask: Ask, stream: bool
) -> None:
    react = Failing()
    react.error = None
    with script_host(path, react) as host:
        assert ask(host.url, stream=stream, retry=0) == "".join(WORDS)


@pytest.mark.parametrize("stream", [False, True])
def test_call_of_which_something_came_is_not(path: str, ask: Ask, stream: bool) -> None:
    react = Failing(num_words=1)
    react.error = None
    with script_host(path, react) as host, pytest.raises(ConnectionLost):
        ask(host.url, stream=stream, retry=0)
    assert react.num_opened == 1


def test_call_whose_answer_the_host_has_not_kept_is_begun_again_by_itself(path: str, ask: Ask) -> None:
    react = Failing()
    react.error = Gone(details={"repeatable": True})
    with script_host(path, react) as host:
        assert ask(host.url, stream=False, retry=0) == "".join(WORDS)


def test_what_will_not_succeed_is_not_begun_again(path: str, ask: Ask) -> None:
    react = Failing()
    react.error = InvalidArgument("top_p: no", details={"field": "top_p"})
    with script_host(path, react) as host, pytest.raises(InvalidArgument):
        ask(host.url, stream=False, retry=5)
    assert react.num_opened == 1


def test_model_is_not_unloaded_twice(path: str) -> None:
    react = Failing()
    react.error = None
    client = Client(f"unix://{path}", retry=5)
    with script_host(path, react), client, pytest.raises(ConnectionLost):
        client.unload_model("m")
    assert react.num_opened == 1


@pytest.mark.parametrize("retry", [-1, 1.5, True, "2", 101])
def test_senseless_retry_is_refused_by_name(path: str, retry: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Client(f"unix://{path}", retry=retry)
    assert caught.value.details == {"field": "retry"}
    with Client(f"unix://{path}") as client, pytest.raises(UsageError) as caught:
        client.generate("x", retry=retry)
    assert caught.value.details == {"field": "retry"}


def test_retry_is_not_for_many_prompts(path: str) -> None:
    with Client(f"unix://{path}") as client, pytest.raises(UsageError) as caught:
        client.generate_many(["x"], retry=1)
    assert caught.value.details == {"field": "retry"}


def test_pauses_grow_heed_the_host_and_end_with_the_timeout() -> None:
    now = 0.0
    retries = Retries("generate", 100, 60.0, lambda: now)
    assert retries.begin() == 60.0
    pauses = [retries.pause_s(WorkerLost()) for _ in range(20)]
    assert all(pause is not None and 0 <= pause <= 10 for pause in pauses)
    assert retries.pause_s(Overloaded(retry_after=30)) == 30
    now = 40.0
    assert retries.begin() == 20.0
    assert retries.pause_s(Overloaded(retry_after=30)) is None
    now = 60.0
    with pytest.raises(DeadlineExceeded):
        retries.begin()


def test_what_is_free_has_an_end() -> None:
    retries = Retries("embed", 0, None)
    lost = Gone(details={"repeatable": True})
    assert [retries.pause_s(lost) is None for _ in range(NUM_FREE + 1)] == [False] * NUM_FREE + [True]


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"seed": 1}, True), ({"temperature": 0.0}, True), ({}, True), ({"temperature": 0.5}, False)],
)
def test_what_a_host_repeats_is_greedy_or_has_a_seed(params: dict[str, Any], expected: bool) -> None:
    assert is_repeatable(params) is expected


class Outage:
    """The socket is taken away amid the first answer, and is there again when it was looked for so many times."""

    def __init__(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first = Failing(num_words=2)
        self.first.error = None
        self.num_searches = 0
        self._path = path
        self._hosts = contextlib.ExitStack()
        search_pause_s = Retries.search_pause_s
        monkeypatch.setattr("random.uniform", lambda least, most: most / 1000)

        def count(retries: Retries, error: BridgeError, *, was_there: bool) -> float | None:
            self.num_searches += 1
            if self.num_searches == self.until:
                self._hosts.enter_context(script_host(path, Failing(0)))
            return search_pause_s(retries, error, was_there=was_there)

        monkeypatch.setattr(Retries, "search_pause_s", count)
        self.until: int | None = None

    def react(self, connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallOpened):
            os.unlink(self._path)
        self.first(connection, event)

    def close(self) -> None:
        self._hosts.close()


@pytest.fixture
def outage(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    outage = Outage(path, monkeypatch)
    yield outage
    outage.close()


@pytest.mark.parametrize("stream", [False, True])
def test_host_that_starts_anew_is_looked_for_until_it_is_there(
    path: str, ask: Ask, outage: Outage, stream: bool
) -> None:
    outage.until = 20
    with script_host(path, outage.react) as host:
        assert ask(host.url, stream=stream, retry=1) == "".join(WORDS)
    assert outage.num_searches == 20


@pytest.mark.parametrize("stream", [False, True])
def test_host_that_stays_away_ends_the_call_with_what_had_cut_it(
    path: str, ask: Ask, outage: Outage, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(retries_module, "RESTART_S", 0.05)
    with script_host(path, outage.react) as host, pytest.raises(ConnectionLost) as caught:
        ask(host.url, stream=stream, retry=3)
    assert "while generate was running" in caught.value.message
    assert f"cannot connect to unix://{path}" in caught.value.message
    assert isinstance(caught.value.__cause__, TransportError) and caught.value.retryable
    assert outage.num_searches > 3


def test_host_that_is_away_is_not_waited_for_without_retry(path: str, ask: Ask, outage: Outage) -> None:
    with pytest.raises(TransportError, match="there is no such file"):
        ask(f"unix://{path}", stream=False, retry=0)
    assert outage.num_searches == 1


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_ping_and_many_prompts_wait_for_a_host_that_begins(path: str, kind: str, outage: Outage) -> None:
    outage.until = 20

    async def ping() -> None:
        async with AsyncClient(f"unix://{path}", retry=1) as client:
            assert await client.ping() < 5

    if kind == "async":
        asyncio.run(ping())
    else:
        with Client(f"unix://{path}", retry=1) as client:
            client.generate_many([]).close()
            assert client.ping() < 5
    assert outage.num_searches == 20


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_ping_waits_for_a_host_that_starts_anew(path: str, kind: str, outage: Outage) -> None:
    outage.until = 20

    async def ping(host: ScriptHost) -> None:
        async with AsyncClient(host.url, retry=1) as client:
            await client.ping()
            os.unlink(path)
            host.cut()
            assert await client.ping() < 5

    with script_host(path, Failing(0)) as host:
        if kind == "async":
            asyncio.run(ping(host))
        else:
            with Client(host.url, retry=1) as client:
                client.ping()
                os.unlink(path)
                host.cut()
                assert client.ping() < 5
    assert outage.num_searches == 20


def test_host_is_looked_for_as_long_as_it_takes_to_start_or_until_the_timeout() -> None:
    now = 0.0
    missing = HostNotFound("nobody")

    def seconds(retries: Retries, *, was_there: bool) -> float:
        nonlocal now
        start = now
        while (pause_s := retries.search_pause_s(missing, was_there=was_there)) is not None:
            assert 0 <= pause_s <= 1
            now += pause_s
        assert retries.pause_s(missing) is None
        return now - start

    assert RESTART_S - 1 <= seconds(Retries("generate", 1, None, lambda: now), was_there=True) <= RESTART_S
    assert START_S - 1 <= seconds(Retries("generate", 1, None, lambda: now), was_there=False) <= START_S
    assert 9 <= seconds(Retries("generate", 1, 10, lambda: now), was_there=True) < 10
    assert seconds(Retries("generate", 0, None, lambda: now), was_there=True) == 0
    again = Retries("generate", 2, None, lambda: now)
    assert again.search_pause_s(Unavailable(retry_after=20), was_there=True) == 20
    now += 20
    again.found()
    assert again.search_pause_s(Unavailable(retry_after=20), was_there=True) == 20
    lasting = TransportError("no", retryable=False)
    assert again.search_pause_s(lasting, was_there=True) is None


def test_time_that_was_spent_looking_is_not_the_calls_any_more() -> None:
    now = 0.0
    retries = Retries("generate", 1, 10.0, lambda: now)
    assert retries.search_pause_s(HostNotFound(), was_there=False) is not None
    now = 4.0
    retries.found()
    assert retries.begin() == 6.0
