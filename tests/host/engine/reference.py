"""What mlx_lm makes of a request by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors

from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.settings import Settings
from tests.host.engine.tiny import Answers

PENALTY_FIELDS = (
    "repetition_penalty",
    "repetition_context_size",
    "presence_penalty",
    "presence_context_size",
    "frequency_penalty",
    "frequency_context_size",
)
# Of logits whose difference is no larger rounding decides which is the largest.
_ROUNDING = 1e-4


def greedy(model: Any, prompt: list[int], told: list[int], caches: list[Any] | None = None) -> list[int]:
    """What mlx_lm's model says is likeliest at each place of an answer, in one pass over all of it.

    An answer equals it if each of its tokens follows from what lies before, as when one token is generated after the other.

    Args:
        model: one of mlx_lm's.
        prompt: what the answer is to.
        told: the answer, without EOS.
        caches: empty ones of mlx_lm's, if they change what the model says.
    """
    if not told:
        return []
    logits = model(mx.array([prompt + told]), cache=caches)[0, len(prompt) - 1 : -1].astype(mx.float32)
    chosen = mx.array(told)
    is_likeliest = (
        mx.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0] >= mx.max(logits, axis=-1) - _ROUNDING
    )
    drawn: Any = mx.where(is_likeliest, chosen, mx.argmax(logits, axis=-1)).tolist()
    return list(drawn)


def assert_greedy(answers: Answers, model: Any, calls: Iterable[int] | None = None) -> None:
    """Each of these answers, or all, is what the model says alone, and as long as was asked for unless it was cancelled."""
    for call in answers.asked if calls is None else calls:
        asked, told, last = answers.asked[call], answers.tokens.get(call, []), answers.last[call]
        assert told == greedy(model, asked["prompt"], told), call
        assert last.usage is not None, last.error
        assert len(told) == asked["max_tokens"] or last.usage.finish_reason == "cancelled", call


def mlx_lm_steps(
    loaded: LoadedModel, prompt: list[int], max_tokens: int, **settings: Any
) -> list[tuple[int, mx.array]]:
    """The greedy tokens, EOS among them, and before each the log-probabilities of all; found once for equal requests."""
    key = f"{id(loaded.model)} {prompt} {max_tokens} {settings}"
    if key not in _known:
        _known[key] = loaded.model, _steps(loaded.model, prompt, max_tokens, settings)
    return _known[key][1]


# By request, with the model whose number is in it, lest another gets that number.
_known: dict[str, tuple[Any, list[tuple[int, mx.array]]]] = {}


def _steps(
    model: Any, prompt: list[int], max_tokens: int, settings: dict[str, Any]
) -> list[tuple[int, mx.array]]:
    chosen = {name: settings[name] for name in PENALTY_FIELDS if name in settings}
    processors = make_logits_processors(logit_bias=settings.get("logit_bias"), **chosen)
    steps = generate_step(mx.array(prompt), model, max_tokens=max_tokens, logits_processors=processors)
    return [(int(token), logprobs) for token, logprobs in steps]


def kept_by_hand(logits: list[float], row: Settings, coin: float = 0.0) -> set[int]:
    """Ids that the filters leave, in plain float64 arithmetic; of equals at the border of top_k the lower ids."""
    weights = [math.exp(value - max(logits)) for value in logits]
    kept = set(range(len(logits)))
    if row.top_p < 1:
        kept = {
            i
            for i in kept
            if i == weights.index(1.0) or sum(w for w in weights if w > weights[i]) < row.top_p * sum(weights)
        }
    kept = {i for i in kept if weights[i] >= row.min_p}
    if row.xtc_probability and coin < row.xtc_probability:
        share = {i: weights[i] / sum(weights[j] for j in kept) for i in kept}
        least = min((p for p in share.values() if p > row.xtc_threshold), default=math.inf)
        kept = {i for i in kept if share[i] <= least or i in row.xtc_spared}
    if row.top_k:
        kept = set(sorted(kept, key=lambda i: (-logits[i], i))[: row.top_k])
    return kept
