"""Pieces of few different lengths: how long they are, and that answers do not change with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxbridge.host.engine import shapes
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefill import prefill, reading
from mlxbridge.host.engine.prefill.budget import PrefillBudget, Step
from mlxbridge.host.engine.prefill.grouping import MAX_FILLER_SHARE
from mlxbridge.host.engine.shapes import (
    PIECE,
    PIECE_ALONE,
    make_budget,
    round_end,
    round_rows,
    round_up,
    view_length,
)
from tests.host.engine.architectures import make_model
from tests.host.engine.test_architectures import expected, prompts
from tests.host.engine.tiny import Answers


def test_a_prompt_is_filled_up_by_little_to_few_lengths() -> None:
    for length in range(1, 40_000):
        filled = round_up(length)
        assert length <= filled < max(length + 16, length / (1 - MAX_FILLER_SHARE))
    for low in (128, 1024, 16_384):
        assert len({round_up(length) for length in range(low + 1, 2 * low + 1)}) == 8


@pytest.mark.parametrize("num_rows", [1, 2, 4, 16])
def test_pieces_end_at_multiples_of_themselves(num_rows: int) -> None:
    for budget in (16, 256, 300, 512, 1024, 4096):
        first = round_end(0, budget, num_rows)
        assert first * num_rows <= max(budget, 64 * num_rows, PIECE), "not much more than the budget"
        start = 0
        for number in range(1, 20):
            start = round_end(start, budget, num_rows)
            assert start == number * first
        assert round_end(first - 10, budget, num_rows) == first


@pytest.mark.parametrize(("num_rows", "piece"), [(1, 256), (2, 256), (4, 256), (8, 128), (16, 64)])
def test_beside_answers_several_prompts_share_what_one_does_not_get(num_rows: int, piece: int) -> None:
    assert round_end(0, 4 * PIECE, num_rows) == piece
    assert round_end(0, PIECE_ALONE, 1) == PIECE_ALONE


def test_side_by_side_are_powers_of_two() -> None:
    assert [round_rows(number) for number in (1, 2, 3, 7, 8, 13, 16)] == [1, 2, 2, 4, 8, 8, 16]


def test_a_budget_does_not_fall_below_its_least() -> None:
    budget = PrefillBudget(512, largest_alone=4096, least=PIECE)
    assert budget.tokens(is_decoding=True) == PIECE
    for num_read, seconds in ((0, 0.01), (0, 0.01), *[(PIECE, 1.0)] * 20):
        budget.observe(Step(seconds, num_read, True))
    assert budget.tokens(is_decoding=True) == PIECE


@pytest.mark.parametrize(
    ("chunk", "rows_beside", "beside", "alone"),
    [
        (1024, 1, PIECE, PIECE_ALONE),
        (1024, 4, 4 * PIECE, PIECE_ALONE),
        (512, 4, 512, PIECE_ALONE),
        (32, 1, 32, 128),
    ],
)
def test_where_a_new_length_is_dear_all_pieces_have_one(
    monkeypatch: pytest.MonkeyPatch, chunk: int, rows_beside: int, beside: int, alone: int
) -> None:
    monkeypatch.setattr(shapes, "is_new_length_dear", lambda: True)
    budget = make_budget(chunk, rows_beside=rows_beside)
    for seconds in (0.001, 10.0):
        for _ in range(20):
            assert budget.tokens(is_decoding=True) == beside and budget.tokens(is_decoding=False) == alone
            budget.observe(Step(0.01, 0, True))
            budget.observe(Step(0.01, 0, True))
            budget.observe(Step(seconds, beside, True))
            budget.observe(Step(seconds, beside, True))
            budget.observe(Step(seconds, alone, False))
            budget.observe(Step(seconds, alone, False))


def test_where_any_length_will_do_an_idle_engine_reads_up_to_four_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shapes, "is_new_length_dear", lambda: False)
    budget = make_budget(128, rows_beside=1)
    for _ in range(40):
        budget.observe(Step(1e-5, 0, True))
        budget.observe(Step(1e-5, 0, True))
        for is_decoding in (True, False):
            num_read = budget.tokens(is_decoding=is_decoding)
            budget.observe(Step(1e-5, num_read, is_decoding))
            budget.observe(Step(1e-5, num_read, is_decoding))
    assert (budget.tokens(is_decoding=True), budget.tokens(is_decoding=False)) == (128, 512)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen3_moe"])
def test_answers_are_the_same(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(prefill, "is_new_length_dear", lambda: True)
    monkeypatch.setattr(reading, "is_new_length_dear", lambda: True)
    model = make_model(name)
    other = replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)
    answers = Answers(BatchEngine(other))
    assert answers.engine.stats()["prefix_cache_budget"] > 0, (
        "fillers are not taken for a state outside the caches"
    )
    texts = prompts(8, [300, 3, 290, 41, 44, 40, 1, 600])
    for call, prompt in enumerate(texts):
        answers.submit(call, prompt=prompt, max_tokens=6)
        answers.step(call % 2)
    answers.finish()
    assert [answers.tokens[call] for call in range(8)] == [expected(model, prompt, 6) for prompt in texts]


def test_views_of_several_tokens_have_few_lengths_where_these_are_dear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = range(1, 20_000, 7)
    assert all(view_length(length, 4) == length for length in lengths)
    monkeypatch.setattr(shapes, "is_new_length_dear", lambda: True)
    assert all(view_length(length, 1) == length for length in lengths)
    views = [view_length(length, 4) for length in lengths]
    assert all(
        length <= view <= max(length + 255, 1.25 * length)
        for length, view in zip(lengths, views, strict=True)
    )
    assert len(set(views)) < 30
