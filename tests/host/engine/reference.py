"""What mlx_lm makes of a request by itself."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors

from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.settings import Settings

PENALTY_FIELDS = (
    "repetition_penalty",
    "repetition_context_size",
    "presence_penalty",
    "presence_context_size",
    "frequency_penalty",
    "frequency_context_size",
)


def mlx_lm_steps(
    loaded: LoadedModel, prompt: list[int], max_tokens: int, **settings: Any
) -> list[tuple[int, mx.array]]:
    """The greedy tokens, EOS among them, and before each the log-probabilities of all."""
    chosen = {name: settings[name] for name in PENALTY_FIELDS if name in settings}
    processors = make_logits_processors(logit_bias=settings.get("logit_bias"), **chosen)
    steps = generate_step(mx.array(prompt), loaded.model, max_tokens=max_tokens, logits_processors=processors)
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
