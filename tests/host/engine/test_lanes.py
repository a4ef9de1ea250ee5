"""Which lane a row joins, and that its tokens do not depend on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine import lanes as module
from mlxbridge.host.engine.admission import Joining, LaneSize
from mlxbridge.host.engine.caches.caches import Source
from mlxbridge.host.engine.caches.footprint import Footprint
from mlxbridge.host.engine.caches.row_caches import Ready, RowCaches
from mlxbridge.host.engine.lanes import MAX_LANES, Lanes, padding_bytes
from mlxbridge.host.engine.rows import Job
from tests.host.engine.architectures import TOKEN_BYTES, make_model

FOOTPRINT = Footprint(token_bytes=TOKEN_BYTES)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("llama")


def prompts(*lengths: int) -> list[list[int]]:
    chance = random.Random(str(lengths))
    return [[chance.randrange(3, 380) for _ in range(length)] for length in lengths]


def ready(model: Any, prompt: list[int], max_tokens: int = 8) -> Ready:
    """A job whose prompt has been read by itself."""
    caches: list[Any] = make_prompt_cache(model)
    if len(prompt) > 1:
        model(mx.array([prompt[:-1]]), cache=caches)
    return Ready(Job(prompt=prompt, max_tokens=max_tokens), Source(caches, 0, len(prompt) - 1))


class Run:
    """Lanes, and the tokens that each job got from them."""

    def __init__(self, model: Any, *, is_batched: bool = True, weight_bytes: int = 0) -> None:
        self.left: list[Job] = []
        self.lanes = Lanes(
            model, FOOTPRINT, is_batched=is_batched, weight_bytes=weight_bytes, leave=self._leave
        )
        self.tokens: dict[Job, list[int]] = {}
        self.failed: list[list[Job]] = []

    def _leave(self, job: Job, caches: RowCaches, place: int) -> None:
        self.left.append(job)

    def step(self, joining: Sequence[Ready] = ()) -> None:
        for row in joining:
            self.tokens[row.job] = []
        decoded = self.lanes.step(joining)
        self.failed += [jobs for jobs, _ in decoded.failed]
        for job, tokens, likelihoods, _ in decoded.drawn:
            assert likelihoods is None, "nobody asked for any"
            self.tokens[job] += tokens
            job.ended = len(self.tokens[job]) >= job.max_tokens

    def finish(self) -> None:
        for _ in range(200):
            if all(job.ended for job in self.tokens):
                return
            self.step()
        raise AssertionError("the lanes do not come to an end")

    def sizes(self) -> list[tuple[int, int]]:
        return sorted((size.num_places, size.end) for size in self.lanes.sizes())


def alone(model: Any, prompt: list[int], max_tokens: int = 8) -> list[int]:
    return [int(token) for token, _ in generate_step(mx.array(prompt), model, max_tokens=max_tokens)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 60), st.integers(1, 9))
def test_padding_is_what_the_rows_do_not_use(lengths: list[int], newcomer: int, bytes_per_token: int) -> None:
    """Of a lane whose rows are all as long as its end, since that is all it knows of them."""
    end = max(lengths)
    used = end * len(lengths) + newcomer
    rows = [*[end] * len(lengths), newcomer]
    expected = (len(rows) * max(rows) - used) * bytes_per_token
    footprint = Footprint(token_bytes=bytes_per_token, fixed_bytes=7)
    assert padding_bytes((len(lengths), end), newcomer, footprint) == expected


def test_padding_of_windows_ends_with_them() -> None:
    footprint = Footprint(token_bytes=1, windows=((24, 100),))
    assert padding_bytes((1, 60), 10, footprint) == 50 + (24 - 10) * 100
    assert padding_bytes((1, 1000), 60, footprint) == 940, "both fill the window"


def test_rows_share_a_lane_while_padding_is_cheap(model: Any) -> None:
    run = Run(model)
    run.step([ready(model, prompt) for prompt in prompts(2, 30, 90)])
    run.step([ready(model, prompt) for prompt in prompts(11)])
    assert run.lanes.num_lanes == 1
    assert run.sizes() == [(4, 91)]


def test_row_opens_a_lane_when_padding_costs_more_than_a_pass(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    short, long = prompts(10, 60)
    just_too_dear = (60 - 10) * TOKEN_BYTES - 1
    for weight_bytes, expected in ((just_too_dear, [(1, 10), (1, 60)]), (just_too_dear + 1, [(2, 60)])):
        run = Run(model, weight_bytes=weight_bytes)
        run.step([ready(model, short), ready(model, long)])
        assert run.sizes() == expected


def test_row_joins_the_lane_where_it_pads_least(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    run = Run(model, weight_bytes=12 * TOKEN_BYTES)
    run.step([ready(model, prompt) for prompt in prompts(8, 40)])
    assert run.sizes() == [(1, 8), (1, 40)]
    assert not run.lanes.opens_lane(36)
    run.step([ready(model, prompt) for prompt in prompts(10, 36, 39)])
    assert run.sizes() == [(2, 10), (3, 41)]
    assert run.lanes.opens_lane(25), "too far from both"


def test_there_are_never_more_than_so_many_lanes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    run = Run(model)
    lengths = [5, 25, 45, 65, 85, 30, 62]
    asked = prompts(*lengths)
    run.step([ready(model, prompt) for prompt in asked[:3]])
    run.step([ready(model, prompt) for prompt in asked[3:]])
    assert run.lanes.num_lanes == MAX_LANES
    assert sum(places for places, _ in run.sizes()) == len(lengths)
    run.finish()
    assert list(run.tokens.values()) == [alone(model, prompt) for prompt in asked]


def test_model_that_is_not_exact_in_batches_gets_a_lane_for_each_row(model: Any) -> None:
    run = Run(model, is_batched=False)
    asked = prompts(*[9] * (MAX_LANES + 2))
    run.step([ready(model, prompt) for prompt in asked])
    assert run.lanes.num_lanes == len(asked)
    assert run.lanes.opens_lane(9)
    run.finish()
    assert list(run.tokens.values()) == [alone(model, prompt) for prompt in asked]


@pytest.mark.parametrize("is_batched", [True, False])
@pytest.mark.parametrize("weight_bytes", [0, 15 * TOKEN_BYTES, 1 << 30])
def test_preview_is_what_comes(
    model: Any, monkeypatch: pytest.MonkeyPatch, weight_bytes: int, is_batched: bool
) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    run = Run(model, is_batched=is_batched, weight_bytes=weight_bytes)
    for lengths in ((8, 40), (10, 25, 7, 36), (60,), ()):
        rows = [ready(model, prompt, max_tokens=9 + len(prompt)) for prompt in prompts(*lengths)]
        joining = [Joining(row.source.length, row.job.num_left) for row in rows]
        preview = run.lanes.preview(joining)
        run.step(rows)
        # All have drawn one token since.
        expected = [LaneSize(size.num_places, size.end + 1, size.num_left - 1) for size in preview]
        assert sorted(run.lanes.sizes()) == sorted(expected)


def test_preview_takes_the_places_that_were_given_up_first(model: Any) -> None:
    run = Run(model)
    run.step(
        [ready(model, prompt, max_tokens=2 + 20 * (i > 0)) for i, prompt in enumerate(prompts(*[9] * 9))]
    )
    for _ in range(4):
        run.step()
    assert [size.num_places for size in run.lanes.sizes()] == [9]
    assert [size.num_places for size in run.lanes.preview([Joining(9, 1)])] == [9]
    assert [size.num_places for size in run.lanes.preview([Joining(9, 1)] * 3)] == [11]


@pytest.mark.parametrize("weight_bytes", [0, 15 * TOKEN_BYTES, 1 << 30])
def test_tokens_do_not_depend_on_the_lane(
    model: Any, monkeypatch: pytest.MonkeyPatch, weight_bytes: int
) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    run = Run(model, weight_bytes=weight_bytes)
    asked = prompts(1, 40, 7, 22, 90, 1, 23, 8, 64, 3)
    lengths = [3 + 2 * number for number in range(len(asked))]
    for prompt, max_tokens in zip(asked, lengths, strict=True):
        run.step([ready(model, prompt, max_tokens)])
    run.finish()
    for (job, tokens), prompt, max_tokens in zip(run.tokens.items(), asked, lengths, strict=True):
        assert tokens == alone(model, prompt, max_tokens), job.prompt


def test_every_job_leaves_once_and_its_memory_with_the_last(model: Any) -> None:
    run = Run(model)
    assert run.lanes.num_lanes == run.lanes.num_bytes == 0
    run.step([ready(model, prompt, 3 + number) for number, prompt in enumerate(prompts(4, 5, 300))])
    run.step()
    assert run.lanes.num_bytes >= 3 * 300 * TOKEN_BYTES
    run.finish()
    run.lanes.drop_idle()
    assert run.lanes.num_lanes == run.lanes.num_bytes == 0
    assert set(run.left) == set(run.tokens) and len(run.left) == len(run.tokens)


def test_row_that_cannot_be_kept_at_the_end_does_not_keep_the_others(model: Any) -> None:
    left: list[Job] = []

    def leave(job: Job, caches: RowCaches, place: int) -> None:
        left.append(job)
        if len(left) == 1:
            raise RuntimeError("[malloc] no memory")

    lanes = Lanes(model, FOOTPRINT, is_batched=False, weight_bytes=0, leave=leave)
    rows = [ready(model, prompt, 5) for prompt in prompts(4, 5)]
    lanes.step(rows)
    for row in rows:
        row.job.ended = True
    lanes.drop_idle()
    assert set(left) == {row.job for row in rows} and lanes.num_lanes == lanes.num_bytes == 0


def test_given_up_places_go_to_newcomers(model: Any) -> None:
    run = Run(model)
    run.step([ready(model, prompt, 20) for prompt in prompts(*[6] * 9)])
    next(iter(run.tokens)).ended = True
    run.step([ready(model, prompt, 20) for prompt in prompts(5)])
    assert [places for places, _ in run.sizes()] == [9]
    run.step([ready(model, prompt, 20) for prompt in prompts(4)])
    assert [places for places, _ in run.sizes()] == [10]


def test_compact_leaves_no_place_that_nobody_needs(model: Any) -> None:
    run = Run(model)
    run.step([ready(model, prompt, 20) for prompt in prompts(200, *[6] * 8)])
    run.step()
    next(iter(run.tokens)).ended = True
    before = run.lanes.num_bytes
    run.step()
    assert run.sizes() == [(9, 202)], "one place of nine is not worth a copy"
    run.lanes.compact()
    assert [places for places, _ in run.sizes()] == [8]
    assert run.sizes()[0][1] < 20, "the padding that the longest made goes with it"
    assert run.lanes.num_bytes < before
    run.finish()
    for job, tokens in list(run.tokens.items())[1:]:
        assert tokens == alone(model, job.prompt, 20)


def test_number_of_tokens_left_is_the_longest_answers(model: Any) -> None:
    run = Run(model)
    run.step(
        [ready(model, prompt, max_tokens) for prompt, max_tokens in zip(prompts(5, 5), (4, 9), strict=True)]
    )
    assert [size.num_left for size in run.lanes.sizes()] == [8]
    for _ in range(4):
        run.step()
    assert [size.num_left for size in run.lanes.sizes()] == [4]


def test_lane_that_fails_is_given_up_and_the_others_go_on(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_LANE_BYTES", 0)
    run = Run(model)
    asked = prompts(8, 8, 40, 40)
    rows = [ready(model, prompt) for prompt in asked]
    run.step(rows)
    assert run.sizes() == [(2, 8), (2, 40)]
    real = type(model).__call__

    def failing(self: Any, inputs: mx.array, cache: Any) -> Any:
        if cache[0].size() < 30:
            raise RuntimeError("out of memory")
        return real(self, inputs, cache=cache)

    monkeypatch.setattr(type(model), "__call__", failing)
    run.step()
    assert [set(jobs) for jobs in run.failed] == [{rows[0].job, rows[1].job}]
    assert run.lanes.num_lanes == 1
    for row in rows[:2]:
        row.job.ended = True
    run.finish()
    monkeypatch.undo()
    for row, prompt in zip(rows[2:], asked[2:], strict=True):
        assert run.tokens[row.job] == alone(model, prompt)
