from __future__ import annotations

import pytest

from mlxbridge.host.engine.prefill.budget import MIN_BUDGET, PrefillBudget, Step


def observe(
    budget: PrefillBudget, seconds: float, *, num_read: int, is_decoding: bool, times: int = 2
) -> None:
    for _ in range(times):
        budget.observe(Step(seconds, num_read, is_decoding))


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("fixed", "per_token"), [(0.0, 1e-3), (4e-3, 1e-5), (1e-3, 1e-4)])
def test_budget_settles_near_the_wanted_gap(fixed: float, per_token: float, is_late: bool) -> None:
    budget, plain = PrefillBudget(4096, largest_alone=8192), 0.03
    observe(budget, plain, num_read=0, is_decoding=True, times=10)
    gaps = []
    before = 0.0
    for _ in range(100):
        tokens = budget.tokens(is_decoding=True)
        cost = fixed + per_token * tokens
        seconds = plain + (before if is_late else cost)  # a device may work on it while the next step waits
        before = cost
        gaps.append(seconds / plain)
        budget.observe(Step(seconds, tokens, True))
    assert max(gaps) < 3.2 and max(gaps[1:]) < 3.2
    assert 1.6 < gaps[-1] < 2.6


@pytest.mark.parametrize("share_late", [0.0, 0.5, 1.0])
def test_budget_learns_from_single_pieces(share_late: float) -> None:
    budget, plain, per_token = PrefillBudget(4096, largest_alone=8192), 0.01, 1e-3
    observe(budget, plain, num_read=0, is_decoding=True, times=10)
    for _ in range(20):
        tokens = budget.tokens(is_decoding=True)
        budget.observe(Step(plain + (1 - share_late) * per_token * tokens, tokens, True))
        budget.observe(Step(plain + share_late * per_token * tokens, 0, True))
        observe(budget, plain, num_read=0, is_decoding=True)
    assert budget.tokens(is_decoding=True) == MIN_BUDGET  # 14 would fill the gap


def test_budget_does_not_starve_prompts_where_every_chunk_is_dear() -> None:
    budget, plain, fixed, per_token = PrefillBudget(4096, largest_alone=8192), 0.004, 0.05, 5e-5
    observe(budget, plain, num_read=0, is_decoding=True, times=10)
    for _ in range(120):
        tokens = budget.tokens(is_decoding=True)
        budget.observe(Step(plain + fixed + per_token * tokens, tokens, True))
        seen = tokens
    assert seen >= 512


def test_budget_finds_out_that_long_pieces_cost_no_more_than_short_ones() -> None:
    """As on a fast device, where a pass takes as long to launch whatever is in it."""
    budget, plain = PrefillBudget(4096, largest_alone=8192), 0.004
    observe(budget, plain, num_read=0, is_decoding=True, times=10)
    num_pieces = 0  # beside answers; so many are a dozen prompts of 200 tokens
    while (tokens := budget.tokens(is_decoding=True)) < 1024:
        budget.observe(Step(plain + 0.005 + 3e-6 * tokens, tokens, True))
        num_pieces += 1
        assert num_pieces <= 12


def test_budget_stays_within_bounds() -> None:
    budget = PrefillBudget(100, largest_alone=300)
    for _ in range(50):
        observe(budget, 0.01, num_read=0, is_decoding=True)
        observe(budget, 9.0, num_read=50, is_decoding=True)
        observe(budget, 9.0, num_read=50, is_decoding=False)
    assert budget.tokens(is_decoding=True) == budget.tokens(is_decoding=False) == MIN_BUDGET
    for _ in range(50):
        observe(budget, 0.01, num_read=300, is_decoding=True)
        observe(budget, 0.01, num_read=300, is_decoding=False)
    assert (budget.tokens(is_decoding=True), budget.tokens(is_decoding=False)) == (96, 256)


def test_budget_does_not_grow_from_steps_that_read_little() -> None:
    budget = PrefillBudget(1000, largest_alone=1000)
    before = budget.tokens(is_decoding=False)
    observe(budget, 0.001, num_read=3, is_decoding=False)
    assert budget.tokens(is_decoding=False) == before


def test_budget_forgets_the_step_before_one_that_teaches_nothing() -> None:
    budget = PrefillBudget(4096, largest_alone=8192)
    observe(budget, 0.01, num_read=0, is_decoding=True, times=10)
    before = budget.tokens(is_decoding=True)
    budget.observe(Step(9.0, before, True))
    budget.observe(None)
    budget.observe(Step(0.01, 0, True))
    assert budget.tokens(is_decoding=True) == before


def test_budget_small_chunks_are_respected() -> None:
    budget = PrefillBudget(7, largest_alone=7)
    observe(budget, 5.0, num_read=7, is_decoding=False)
    observe(budget, 0.01, num_read=0, is_decoding=True)
    observe(budget, 5.0, num_read=7, is_decoding=True)
    assert budget.tokens(is_decoding=False) == budget.tokens(is_decoding=True) == 7
