"""What mlx_lm makes of a request by itself."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors

from mlxbridge.host.engine.loader import LoadedModel

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
