from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import sample_utils

from mlxbridge.host.engine import sampling
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.sampling import RowSampler, filter_logprobs, key_seed, make_sampler

VOCABULARY = 50


def some_logprobs(seed: int, dtype: Any = mx.float32) -> mx.array:
    logits = 3 * mx.random.normal((1, VOCABULARY), key=mx.random.key(seed))
    return (logits - mx.logsumexp(logits, axis=-1, keepdims=True)).astype(dtype)


def global_state() -> list[int]:
    state: Any = mx.random.state
    return list(state[0].tolist())


def drawn(token: Any) -> int:
    assert token.shape == (1,)
    return int(token.item())


def draws(request: GenerateRequest, num_tokens: int) -> list[int]:
    sampler = RowSampler(request, VOCABULARY)
    return [drawn(sampler(some_logprobs(i))) for i in range(num_tokens)]


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
@pytest.mark.parametrize("min_p", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 7])
def test_filters_keep_what_mlx_lm_keeps(top_p: float, min_p: float, top_k: int) -> None:
    for seed in range(5):
        logprobs = some_logprobs(seed)
        expected = logprobs
        if top_p < 1:
            expected = sample_utils.apply_top_p(expected, top_p)
        if min_p > 0:
            expected = sample_utils.apply_min_p(expected, min_p)
        if top_k > 0:
            expected = sample_utils.apply_top_k(expected, top_k)
        got = filter_logprobs(logprobs, top_p=top_p, min_p=min_p, top_k=top_k)
        assert mx.array_equal(got, expected)


def test_sampler_same_seed_same_tokens_whatever_the_global_state() -> None:
    request = GenerateRequest(prompt="x", temperature=1.0, top_p=0.95, seed=5)
    first = draws(request, 30)
    mx.random.seed(99)
    before = global_state()
    assert draws(request, 30) == first
    assert global_state() == before
    assert draws(GenerateRequest(prompt="x", temperature=1.0, top_p=0.95, seed=6), 30) != first


def test_sampler_without_seed_varies() -> None:
    request = GenerateRequest(prompt="x", temperature=1.0)
    assert draws(request, 30) != draws(request, 30)


def test_sampler_draws_follow_the_probabilities() -> None:
    logprobs = mx.log(mx.array([[0.5, 0.3, 0.2]]))
    sampler = RowSampler(GenerateRequest(prompt="x", temperature=1.0, seed=1), 3)
    counts = [0, 0, 0]
    for _ in range(3000):
        counts[drawn(sampler(logprobs))] += 1
    for count, share in zip(counts, [0.5, 0.3, 0.2], strict=True):
        assert abs(count / 3000 - share) < 0.04


def test_sampler_takes_low_precision_and_extreme_parameters() -> None:
    logprobs = some_logprobs(3, mx.bfloat16)
    best = drawn(mx.argmax(logprobs, axis=-1))
    changes: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 2e-5}]
    for change in changes:
        request = GenerateRequest(prompt="x", seed=-1, **{"temperature": 1.5, **change})
        assert drawn(RowSampler(request, VOCABULARY)(logprobs)) == best
    everything = GenerateRequest(prompt="x", temperature=1.0, top_k=10**9)
    assert RowSampler(everything, VOCABULARY)(logprobs).shape == (1,)


def test_make_sampler_greedy_has_none() -> None:
    assert make_sampler(GenerateRequest(prompt="x", temperature=0), VOCABULARY) is None
    assert make_sampler(GenerateRequest(prompt="x", temperature=1e-30), VOCABULARY) is None


def test_sampler_that_fails_reports_and_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    sampler = RowSampler(GenerateRequest(prompt="x", temperature=1.0), VOCABULARY)
    monkeypatch.setattr(sampling, "filter_logprobs", fail)
    assert sampler(some_logprobs(1)).shape == (1,)
    assert isinstance(sampler.error, RuntimeError)


def test_key_seed_differs_by_seed_and_position() -> None:
    keys = {key_seed(seed, position) for seed in range(-50, 50) for position in range(100)}
    assert len(keys) == 10_000
    assert all(0 <= key < 2**64 for key in keys)
