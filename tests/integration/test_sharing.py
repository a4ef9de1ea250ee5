"""Three models with memory for two, and 50 guests who ask for all of them at once, beside some who never stop asking."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import AsyncClient
from mlxbridge.addresses import parse_listen
from mlxbridge.errors import TransportError
from mlxbridge.host.config.config import Config
from mlxbridge.host.daemon import Daemon
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.need import estimate_need
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, classify
from mlxbridge.host.models.worker import Worker
from mlxbridge.types import Message

NUM_GUESTS = 50
NUM_EAGER = 2  # for each of the first two models
NAMES = ("amber", "birch", "cedar")
LIMITS = EngineLimits(kv_bytes=24 << 20, prefix_cache_bytes=0)
TENURE_S, GRACE_S = 1.5, 0.1
# That a call can wait for: its own model's, and those of the two others, which may be before it in line.
MOST_STARTS = 3


class Starts:
    """Watches every start of a worker process: what is reserved then, which others are alive, and how many starts a call
    waits for, that of its own model the last of them."""

    def __init__(self, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.most_alive = 0
        self.waited: Counter[int] = Counter()
        self._memory = memory
        self._workers: dict[Worker, int] = {}  # as which it was started
        self._asked: dict[Job, int] = {}
        self._start, self._submit, self._hand_over = Worker.start, Model.submit, Worker.submit
        monkeypatch.setattr(Worker, "start", self.start)
        monkeypatch.setattr(Model, "submit", lambda model, job: self.submit(model, job))
        monkeypatch.setattr(Worker, "submit", lambda worker, job: self.hand_over(worker, job))

    async def start(self, *callbacks: Any) -> Worker:
        self.count = number = self.count + 1
        books = self._memory.residency
        assert books.reserved_bytes <= books.budget_bytes
        alive = [worker for worker in self._workers if is_alive(worker.process.pid)]
        self.most_alive = max(self.most_alive, len(alive) + 1)
        worker = await self._start(*callbacks)
        self._workers[worker] = number
        return worker

    def submit(self, model: Model, job: Job) -> None:
        self._asked[job] = self.count
        self._submit(model, job)

    def hand_over(self, worker: Worker, job: Job) -> None:
        if (asked := self._asked.pop(job, None)) is not None:  # else it goes on after a turn of others
            self.waited[max(0, self._workers[worker] - asked)] += 1
        self._hand_over(worker, job)

    def all_have_ended(self) -> bool:
        return not any(is_alive(worker.process.pid) for worker in self._workers)


async def until_it_listens(url: str) -> None:
    async with AsyncClient(url) as client:
        while True:
            try:
                await client.ping()
                return
            except TransportError:
                await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def copies_of_demo(folder: Path) -> tuple[ModelSettings, ...]:
    demo = classify("demo").folder
    assert demo is not None
    return tuple(
        ModelSettings(
            name=name,
            source=ModelSource(name=name, kind="folder", folder=Path(shutil.copytree(demo, folder / name))),
            limits=LIMITS,
        )
        for name in NAMES
    )


async def test_every_guest_is_answered_right_and_in_time_though_not_all_models_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = copies_of_demo(tmp_path)
    assert models[0].source.folder is not None
    one = estimate_need([models[0].source.folder], LIMITS).least_bytes
    memory = Memory(2 * one + one // 2, tenure_s=TENURE_S, grace_s=GRACE_S)
    starts = Starts(memory, monkeypatch)
    answered: Counter[str] = Counter()

    async def ask(client: AsyncClient, name: str, chance: random.Random) -> None:
        first, second = 10 + chance.randrange(40), 10 + chance.randrange(40)
        answer = await client.chat(f"What is {first} + {second}?", model=name)
        assert answer.text == f"{first} + {second} = {first + second}."
        assert answer.model == name

    async def ask_all(url: str, guest: int) -> None:
        chance = random.Random(guest)
        async with AsyncClient(url) as client:
            for name in chance.sample(NAMES, len(NAMES)):
                await ask(client, name, chance)
                answered[name] += 1

    async def ask_many(url: str) -> None:
        sums = [(first, second) for first in range(10, 14) for second in range(20, 25)]
        async with AsyncClient(url) as client:
            prompts: list[list[Message]] = [
                [{"role": "user", "content": f"What is {first} + {second}?"}] for first, second in sums
            ]
            outcomes = await client.generate_many(prompts, model=NAMES[0])
            texts = {outcome.index: outcome.text async for outcome in outcomes}
        assert texts == {
            index: f"{first} + {second} = {first + second}." for index, (first, second) in enumerate(sums)
        }

    async def ask_for_ever(url: str, guest: int) -> None:
        async with AsyncClient(url) as client:
            while True:
                await ask(client, NAMES[guest % 2], random.Random(guest))

    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        config = Config(
            listens=(parse_listen(f"unix:{folder}/m.sock"),),
            models=models,
            limits=LIMITS,
            keep_alive_s=None,
            tokens=None,
            memory_bytes=None,
            allow_pull=False,
            drain_timeout_s=1.0,
            log_level=30,
        )
        daemon = Daemon(config, memory)
        serving = asyncio.ensure_future(daemon.run())
        url = f"unix://{folder}/m.sock"
        async with asyncio.timeout(120):
            await until_it_listens(url)
            async with asyncio.TaskGroup() as group:
                eager = [group.create_task(ask_for_ever(url, guest)) for guest in range(2 * NUM_EAGER)]
                await asyncio.gather(ask_many(url), *(ask_all(url, guest) for guest in range(NUM_GUESTS)))
                for task in eager:
                    task.cancel()
        async with AsyncClient(url) as client:
            status = await client.status()
            answer = await client.chat("What is 27 + 15?", model=NAMES[1], keep_alive=0)
            assert answer.text == "27 + 15 = 42."
            async with asyncio.timeout(60):
                while (await client.list_models())[1].state != "unloaded":
                    await asyncio.sleep(0.01)
        daemon.stop()
        await serving

    assert answered == dict.fromkeys(NAMES, NUM_GUESTS)
    assert max(starts.waited) <= MOST_STARTS
    assert starts.count >= 3 and starts.most_alive <= 2
    assert status.memory.budget == memory.residency.budget_bytes
    assert 0 < status.memory.reserved <= status.memory.budget
    assert 0 < status.memory.used <= status.memory.budget
    assert [model.state for model in status.models].count("ready") in (1, 2)
    assert starts.all_have_ended() and memory.residency.reserved_bytes == 0
