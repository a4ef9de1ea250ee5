from __future__ import annotations

import pytest

from mlxbridge.host.engine.budget import MIN_BUDGET, PrefillBudget


@pytest.mark.parametrize(("fixed", "per_token"), [(0.0, 1e-3), (4e-3, 1e-5), (1e-3, 1e-4)])
def test_budget_settles_near_the_wanted_gap(fixed: float, per_token: float) -> None:
    budget, plain = PrefillBudget(4096, largest_alone=8192), 0.03
    for _ in range(10):
        budget.observe(plain, num_read=0, is_decoding=True)
    gaps = []
    for _ in range(60):
        tokens = budget.tokens(is_decoding=True)
        seconds = plain + fixed + per_token * tokens
        gaps.append(seconds / plain)
        budget.observe(seconds, num_read=tokens, is_decoding=True)
    assert max(gaps) < 3.2 and max(gaps[1:]) < 3
    assert gaps[-1] > 1.6


def test_budget_does_not_starve_prompts_where_every_chunk_is_dear() -> None:
    budget, plain, fixed, per_token = PrefillBudget(4096, largest_alone=8192), 0.004, 0.05, 5e-5
    for _ in range(10):
        budget.observe(plain, num_read=0, is_decoding=True)
    budget.observe(fixed + per_token * 4096, num_read=4096, is_decoding=False)
    for _ in range(60):
        tokens = budget.tokens(is_decoding=True)
        budget.observe(plain + fixed + per_token * tokens, num_read=tokens, is_decoding=True)
        seen = tokens
    assert seen >= 512


def test_budget_stays_within_bounds() -> None:
    budget = PrefillBudget(100, largest_alone=300)
    for _ in range(50):
        budget.observe(0.01, num_read=0, is_decoding=True)
        budget.observe(9.0, num_read=50, is_decoding=True)
        budget.observe(9.0, num_read=50, is_decoding=False)
    assert budget.tokens(is_decoding=True) == budget.tokens(is_decoding=False) == MIN_BUDGET
    for _ in range(50):
        budget.observe(0.01, num_read=300, is_decoding=True)
        budget.observe(0.01, num_read=300, is_decoding=False)
    assert (budget.tokens(is_decoding=True), budget.tokens(is_decoding=False)) == (96, 256)


def test_budget_does_not_learn_from_steps_that_read_little() -> None:
    budget = PrefillBudget(1000, largest_alone=1000)
    before = budget.tokens(is_decoding=False)
    budget.observe(0.001, num_read=3, is_decoding=False)
    assert budget.tokens(is_decoding=False) == before


def test_budget_small_chunks_are_respected() -> None:
    budget = PrefillBudget(7, largest_alone=7)
    budget.observe(5.0, num_read=7, is_decoding=False)
    budget.observe(0.01, num_read=0, is_decoding=True)
    budget.observe(5.0, num_read=7, is_decoding=True)
    assert budget.tokens(is_decoding=False) == budget.tokens(is_decoding=True) == 7
