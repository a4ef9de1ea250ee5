from __future__ import annotations

import re

import pytest

from mlxbridge.errors import ContextTooLong
from mlxbridge.host.engine.admission import Admission, LaneSize
from mlxbridge.host.engine.caches.footprint import Footprint

EXPECTED_TOKENS = 512
PER_TOKEN = 10
FOOTPRINT = Footprint(token_bytes=PER_TOKEN, fixed_bytes=3)


def rows(num_tokens: int) -> int:
    return FOOTPRINT.row_bytes(num_tokens)


def with_budget(budget: int, footprint: Footprint = FOOTPRINT) -> Admission:
    return Admission(footprint, budget, expected_tokens=EXPECTED_TOKENS)


def test_call_that_fits_keeps_its_limit() -> None:
    admission = with_budget(rows(1000))
    assert admission.token_limit("tiny", 100, 500, 500) == 500
    assert admission.token_limit("tiny", 100, None, 4096) == 1023 - 100


def test_call_that_could_never_fit_is_refused_with_both_numbers() -> None:
    admission = with_budget(rows(1000))
    assert admission.token_limit("tiny", 100, 923, 923) == 923
    with pytest.raises(ContextTooLong) as caught:
        admission.token_limit("tiny", 100, 924, 924)
    assert caught.value.details == {
        "prompt_tokens": 100,
        "max_tokens": 924,
        "kv_bytes": 12803,
        "kv_bytes_budget": 10243,
    }
    with pytest.raises(ContextTooLong):
        admission.token_limit("tiny", 1023, None, 4096)


def test_refusal_names_the_option_and_a_number_that_is_taken() -> None:
    admission = with_budget(1 << 20, Footprint(token_bytes=1024))
    with pytest.raises(
        ContextTooLong, match=r"take 1\.25 MiB of cache, but tiny has 1\.00 MiB .*--kv-memory"
    ) as caught:
        admission.token_limit("tiny", 15, 1100, 1100)
    most = int(re.fullmatch(r".*ask for at most (\d+) tokens", caught.value.message)[1])  # type: ignore[index]
    assert admission.token_limit("tiny", 15, most, most) == most
    with pytest.raises(ContextTooLong):
        admission.token_limit("tiny", 15, most + 1, most + 1)


@pytest.mark.parametrize("max_tokens", [None, 5])
def test_prompt_that_alone_is_too_long_is_told_how_long_it_may_be(max_tokens: int | None) -> None:
    admission = with_budget(1 << 20, Footprint(token_bytes=1024))
    with pytest.raises(ContextTooLong, match=r"the prompt may have at most 1022 tokens "):
        admission.token_limit("tiny", 2000, max_tokens, max_tokens or 4096)
    assert admission.token_limit("tiny", 1022, max_tokens and 1, 1) == 1


def test_projection_looks_a_little_ahead_and_no_further_than_calls_go() -> None:
    admission = with_budget(10**6)
    lanes = [LaneSize(num_places=3, end=700, num_left=4000), LaneSize(num_places=1, end=5000, num_left=2)]
    assert admission.projected_bytes(lanes) == 3 * rows(700 + EXPECTED_TOKENS) + rows(5002)
    assert admission.projected_bytes(lanes, num_more=1) == 3 * rows(701) + rows(5001)
    assert admission.projected_bytes([]) == 0
