"""Prompts are read side by side as each would be alone, in bounded pieces, and nobody starves."""

from __future__ import annotations

import random
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.row_caches import Ready, RowCaches
from mlxbridge.host.engine.prefill.prefill import MAX_GROUP_ROWS, Prefill
from mlxbridge.host.engine.prefixes.prefix_cache import PrefixCache
from mlxbridge.host.engine.rows import Job
from tests.host.engine.architectures import make_model


class Watched:
    """A model that notes what it is asked to read, and chokes on one token."""

    def __init__(self, name: str) -> None:
        self.model = make_model(name)
        self.layers = self.model.layers
        self.read: list[list[list[int]]] = []
        self.poison: int | None = None

    def make_cache(self) -> Any:
        return make_prompt_cache(self.model)

    def __call__(self, inputs: mx.array, cache: Any) -> Any:
        rows: Any = inputs.tolist()
        if any(self.poison in row for row in rows):
            raise RuntimeError("indigestible")
        self.read.append(rows)
        return self.model(inputs, cache=cache)


def job(length: int, *, seed: int = 0) -> Job:
    chance = random.Random(f"{length} {seed}")
    return Job(prompt=[chance.randrange(3, 380) for _ in range(length)], max_tokens=8)


def jobs(*lengths: int) -> list[Job]:
    return [job(length, seed=number) for number, length in enumerate(lengths)]


class Reader:
    """A prefill without cached prefixes, and what came of its steps."""

    def __init__(self, name: str = "llama") -> None:
        self.model = Watched(name)
        self.prefill = Prefill(self.model, PrefixCache(CachePlan(self.model), 0))
        self.ready: list[Ready] = []
        self.failed: dict[Job, Exception] = {}
        self.num_steps = 0

    def add(self, *added: Job) -> None:
        for each in added:
            self.prefill.add(each)

    def step(self, budget: int, *, is_alone: bool = False) -> list[Job]:
        """One step; who is ready after it."""
        self.num_steps += 1
        progress = self.prefill.step(budget, is_alone=is_alone)
        self.ready += progress.ready
        self.failed.update(progress.failed)
        return [row.job for row in progress.ready]

    def finish(self, budget: int, expected: int, *, is_alone: bool = False) -> None:
        while len(self.ready) + len(self.failed) < expected:
            self.step(budget, is_alone=is_alone)
            assert self.num_steps < 500, "prompts are not read to their end"


def assert_as_alone(reader: Reader) -> None:
    for row in reader.ready:
        caches = make_prompt_cache(reader.model.model)
        prompt = row.job.prompt
        if len(prompt) > 1:
            reader.model.model(mx.array([prompt[:-1]]), cache=caches)
        after = [reader.model.model(mx.array([[prompt[-1]]]), cache=each) for each in (caches, _own(row))]
        assert mx.allclose(after[0], after[1], atol=1e-4).item(), f"a prompt of {len(prompt)} tokens"


def _own(row: Ready) -> list[Any]:
    caches = RowCaches()
    caches.place([row.source], [0])
    return caches.layers


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba", "lfm2"])
@pytest.mark.parametrize(("budget", "is_alone"), [(7, False), (64, False), (64, True), (4096, True)])
def test_read_side_by_side_equals_alone(name: str, budget: int, is_alone: bool) -> None:
    reader = Reader(name)
    asked = jobs(1, 2, 30, 31, 29, 29, 29, 1, 75, 8)
    reader.add(*asked)
    reader.finish(budget, len(asked), is_alone=is_alone)
    assert {id(row.job) for row in reader.ready} == {id(each) for each in asked}
    assert all(row.source.length == len(row.job.prompt) - 1 for row in reader.ready)
    assert_as_alone(reader)


def test_no_step_reads_more_than_its_budget() -> None:
    reader = Reader()
    asked = jobs(300, 40, 41, 42, 3, 200)
    reader.add(*asked)
    sizes = []
    while len(reader.ready) < len(asked):
        before = len(reader.model.read)
        reader.step(48)
        passes = reader.model.read[before:]
        assert len(passes) <= 1, "beside running answers one pass a step"
        sizes += [sum(map(len, rows)) for rows in passes]
    assert max(sizes) <= 48
    assert sum(sizes) <= 1.2 * sum(len(each.prompt) for each in asked), "fillers are few"


def test_alone_a_step_reads_on_until_its_budget_is_spent() -> None:
    reader = Reader()
    reader.add(*jobs(20, 100, 300))
    ready = reader.step(450, is_alone=True)
    assert len(ready) == 3 and len(reader.model.read) == 3


def test_similar_lengths_are_read_in_one_pass_and_others_are_not() -> None:
    reader = Reader()
    reader.add(*jobs(50, 48, 200, 49, 6))
    ready = [len(each.prompt) for _ in range(3) for each in reader.step(1000)]
    assert sorted(len(rows) for rows in reader.model.read) == [1, 1, 3]
    assert sorted(ready) == [6, 48, 49, 50, 200]


def test_caches_that_fillers_would_change_get_one_length_only() -> None:
    reader = Reader("mamba")
    asked = jobs(50, 49, 50, 50, 49)
    reader.add(*asked)
    reader.finish(1000, len(asked), is_alone=True)
    assert sorted((len(rows), len(rows[0])) for rows in reader.model.read) == [(2, 48), (3, 49)]


def test_group_has_no_more_rows_than_the_bound() -> None:
    reader = Reader()
    asked = jobs(*[12] * (MAX_GROUP_ROWS + 5))
    reader.add(*asked)
    reader.finish(100_000, len(asked), is_alone=True)
    assert sorted(len(rows) for rows in reader.model.read) == [5, MAX_GROUP_ROWS]


def test_short_prompt_does_not_wait_for_a_long_one_nor_the_long_one_for_many_short() -> None:
    reader = Reader()
    (long,) = jobs(600)
    reader.add(long)
    reader.step(20)
    for number in range(200):
        short = job(10, seed=1000 + number)
        reader.add(short)
        waited = 0
        while short not in [row.job for row in reader.ready]:
            reader.step(20)
            waited += 1
        assert waited <= 3
        if long in [row.job for row in reader.ready]:
            break
    assert number < 60, "of every two passes one is the long prompt's"


def test_long_prompt_that_was_not_begun_does_not_wait_for_many_short() -> None:
    reader = Reader()
    first, long = jobs(45, 100)
    reader.add(first, long)
    for _ in range(3):
        reader.step(20)
    for number in range(60):  # whenever it is the oldest's turn, one that takes two passes is half read
        reader.add(job(30, seed=1000 + number))
        reader.step(20)
        reader.step(20)
        if long in [row.job for row in reader.ready]:
            break
    assert number < 20, "of every two passes one is the oldest prompt's"


def test_rows_that_are_not_exact_beside_others_are_read_one_by_one() -> None:
    reader = Reader()
    reader.prefill = Prefill(reader.model, PrefixCache(CachePlan(reader.model), 0), max_rows=1)
    asked = jobs(12, 12, 12)
    reader.add(*asked)
    reader.finish(1000, 3, is_alone=True)
    assert [len(rows) for rows in reader.model.read] == [1, 1, 1]


def test_prompt_of_one_token_is_ready_without_a_pass() -> None:
    reader = Reader()
    (one,) = jobs(1)
    reader.add(one)
    assert reader.step(16) == [one]
    assert reader.model.read == []


def test_jobs_that_ended_are_not_read() -> None:
    reader = Reader()
    gone, stays, half = jobs(30, 31, 200)
    reader.add(gone, stays)
    gone.ended = True
    reader.finish(1000, 1, is_alone=True)
    assert [row.job for row in reader.ready] == [stays]
    assert [len(rows) for rows in reader.model.read] == [1]
    reader.add(half)
    reader.step(50)
    half.ended = True
    num_read = len(reader.model.read)
    for _ in range(5):
        assert reader.step(50) == []
    assert len(reader.model.read) == num_read
    assert reader.prefill.num_bytes == 0, "its caches are gone"


def test_equal_prompts_are_read_once_also_if_one_comes_later() -> None:
    reader = Reader()
    first, second, late = (job(80) for _ in range(3))
    reader.add(first, second)
    reader.step(30)
    reader.add(late)
    reader.finish(30, 3)
    assert sum(len(rows) * len(rows[0]) for rows in reader.model.read) == 79
    assert_as_alone(reader)


def test_prompt_that_fails_is_read_by_itself_and_fails_alone() -> None:
    reader = Reader()
    asked = jobs(20, 20, 20)
    asked[1].prompt[7] = 381
    reader.model.poison = 381
    reader.add(*asked)
    reader.finish(1000, 3)
    assert list(reader.failed) == [asked[1]]
    assert "indigestible" in str(reader.failed[asked[1]])
    assert {id(row.job) for row in reader.ready} == {id(asked[0]), id(asked[2])}
    assert_as_alone(reader)


def test_clear_forgets_everything() -> None:
    reader = Reader()
    reader.add(*jobs(100, 5))
    reader.step(20)
    reader.prefill.clear()
    num_read = len(reader.model.read)
    assert reader.step(1000, is_alone=True) == []
    assert len(reader.model.read) == num_read and reader.prefill.num_bytes == 0
