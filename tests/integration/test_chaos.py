"""A network that cuts, stalls, trickles and changes bytes under many streams: each is exact, or ends with an error that says why."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from mlxbridge import AsyncClient, Client, GenerateOptions, Generation
from mlxbridge.errors import BridgeError
from tests.helpers.chaos_proxy import ChaosProxy, chaos_proxy
from tests.integration.hosts import HostProcess, run_host

ROUNDS = 500
PAUSE_S = 0.015
STREAMS = 32
CLIENTS = 4  # of each kind
TIMEOUT_S = 60.0
SLACK_S = 5.0
SEEDS = 8


def options(seed: int) -> GenerateOptions:
    return {
        "max_tokens": 24,
        "ignore_eos": True,
        "temperature": 1.0,
        "logprobs": 1,
        "seed": seed,
        "timeout": TIMEOUT_S,
    }


class End(NamedTuple):
    seed: int
    answer: Generation | None
    error: BaseException | None
    seconds: float


class Storm:
    """Streams that follow each other, until it is over; how each of them ended."""

    def __init__(self, url: str, token: str | None) -> None:
        self.ends: list[End] = []
        self.is_over = threading.Event()
        self._url, self._token = url, token

    def run(self, proxy: ChaosProxy) -> None:
        clients = [Client(self._url, token=self._token) for _ in range(CLIENTS)]
        threads = [
            threading.Thread(target=self._read_on, args=(clients[number % CLIENTS], number))
            for number in range(STREAMS // 2)
        ]
        threads.append(threading.Thread(target=lambda: asyncio.run(self._read_on_in_tasks())))
        for thread in threads:
            thread.start()
        for _ in range(ROUNDS):
            time.sleep(PAUSE_S)
            proxy.disturb()
        self.is_over.set()
        for thread in threads:
            thread.join(TIMEOUT_S + SLACK_S)
            assert not thread.is_alive(), "a stream hangs past its deadline"
        for client in clients:
            client.close()

    def _read_on(self, client: Client, number: int) -> None:
        pick = random.Random(number)
        while not self.is_over.is_set():
            seed, started = pick.randrange(SEEDS), time.monotonic()
            try:
                with client.stream("Once", **options(seed)) as stream:
                    answer = stream.read()
            except Exception as error:
                self._note(seed, None, error, started)
            else:
                self._note(seed, answer, None, started)

    async def _read_on_in_tasks(self) -> None:
        clients = [AsyncClient(self._url, token=self._token) for _ in range(CLIENTS)]
        await asyncio.gather(
            *(self._read_on_in_task(clients[number % CLIENTS], number) for number in range(STREAMS // 2))
        )
        for client in clients:
            await client.close()

    async def _read_on_in_task(self, client: AsyncClient, number: int) -> None:
        pick = random.Random(number)
        while not self.is_over.is_set():
            seed, started = pick.randrange(SEEDS), time.monotonic()
            try:
                stream = await client.stream("Once", **options(seed))
                answer = await stream.read()
            except Exception as error:
                self._note(seed, None, error, started)
            else:
                self._note(seed, answer, None, started)

    def _note(
        self, seed: int, answer: Generation | None, error: BaseException | None, started: float
    ) -> None:
        self.ends.append(End(seed, answer, error, time.monotonic() - started))


def is_same(answer: Generation, expected: Generation) -> bool:
    """Whether all is equal, but for the last bits of what was computed in another batch."""
    logprobs, others = answer.logprobs or [], expected.logprobs or []
    return (
        (answer.text, answer.token_ids, answer.finish_reason)
        == (expected.text, expected.token_ids, expected.finish_reason)
        and len(logprobs) == len(others) == len(answer.token_ids)
        and all(
            one.chosen.token_id == other.chosen.token_id
            and abs(one.chosen.logprob - other.chosen.logprob) < 0.01
            for one, other in zip(logprobs, others, strict=True)
        )
    )


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with run_host("tcp") as running:
        yield running


def test_every_stream_is_exact_or_ends_with_an_error_of_ours(host: HostProcess) -> None:
    with host.client(timeout=60) as client:
        expected = [client.generate("Once", **options(seed)) for seed in range(SEEDS)]
    with chaos_proxy(host.url, seed=1) as proxy:
        storm = Storm(proxy.url, host.token)
        storm.run(proxy)
        assert sum(proxy.did.values()) > ROUNDS / 2 and len(proxy.did) == 4, proxy.did
        assert proxy.num_accepted > 2 * CLIENTS + 20
    told = Counter("exact" if end.error is None else repr(end.error) for end in storm.ends)
    assert told["exact"] >= STREAMS / 2, told
    for end in storm.ends:
        assert end.seconds < TIMEOUT_S + SLACK_S
        if end.answer is not None:
            assert is_same(end.answer, expected[end.seed]), end
        else:
            assert isinstance(end.error, BridgeError) and end.error.message, end
    with host.client(timeout=60) as client:
        details = client.status().models[0].details
        assert (details["running"], details["waiting"], details["held"]) == (0, 0, 0)
