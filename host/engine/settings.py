"""How one row's tokens are chosen: a request's parameters, complete and checked against the model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlxbridge.host.engine.grammar.reasoning import Reasoning
from mlxbridge.host.engine.interface import DEFAULT_CONTEXT_SIZE, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid

# Below this, 1/temperature overflows float32 arithmetic and the choice is the greedy one anyway.
MIN_TEMPERATURE = 1e-5
# Above this all tokens are as likely as each other anyway; were 1/temperature to round to nothing, those that cannot be
# drawn at all would be too.
MAX_TEMPERATURE = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one row's tokens are chosen; checked values only.

    ``temperature`` 0 is greedy; ``top_p`` 1, ``min_p`` 0, ``top_k`` 0 and ``xtc_probability`` 0 are off. ``seed`` is
    any integer. Penalties are off at 0, that for repetition at 1.

    Attributes:
        xtc_spared: token ids that xtc never takes away.
        end_ids: token ids that cannot be drawn before ``min_tokens`` have been.
        reasoning_end: the tokens that close reasoning, for a row whose reasoning is bounded.
        reasoning: what comes before that which the row is held to; None: nothing, or it is held to nothing.
        logprobs: of how many likeliest tokens the probabilities are wanted beside the drawn one's; None: of none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    xtc_spared: tuple[int, ...] = ()
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    repetition_penalty: float = 1.0
    repetition_context_size: int = DEFAULT_CONTEXT_SIZE
    presence_penalty: float = 0.0
    presence_context_size: int = DEFAULT_CONTEXT_SIZE
    frequency_penalty: float = 0.0
    frequency_context_size: int = DEFAULT_CONTEXT_SIZE
    min_tokens: int = 0
    end_ids: tuple[int, ...] = ()
    reasoning_end: tuple[int, ...] = ()
    reasoning: Reasoning | None = None
    logprobs: int | None = None


GREEDY = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSettings:
    """How tokens are drafted for one row.

    Attributes:
        by_model: by the draft model; else looked up in what was said before.
        most: tokens at once, at least 1.
    """

    by_model: bool
    most: int


def settings_of(
    request: GenerateRequest, loaded: LoadedModel, *, max_tokens: int, reasoning: Reasoning | None = None
) -> Settings:
    """A request's settings; one without a seed gets one from the system.

    Args:
        request: see ``checks.check_request``.
        loaded: the model it is for.
        max_tokens: tokens that its answer may have.
        reasoning: what comes before that which the answer is held to.

    Raises:
        InvalidArgument: a token id is not in the model's vocabulary, or ``min_tokens`` cannot be reached.
    """
    _check_ids(request.logit_bias, "logit_bias", loaded)
    _check_ids(request.stop_token_ids, "stop_token_ids", loaded)
    end_ids = _drawable(eos_ids(request, loaded).union(request.stop_token_ids), loaded)
    if request.min_tokens > max_tokens:
        raise invalid("min_tokens", f"is {request.min_tokens}, but only {max_tokens} tokens may be generated")
    if request.min_tokens and len(end_ids) >= loaded.vocabulary_size:
        raise invalid("min_tokens", "cannot be reached: every token ends the answer")
    return Settings(
        temperature=_temperature(request),
        top_p=request.top_p,
        min_p=request.min_p,
        top_k=request.top_k if request.top_k < loaded.vocabulary_size else 0,
        xtc_probability=request.xtc_probability,
        xtc_threshold=request.xtc_threshold,
        xtc_spared=_xtc_spared(loaded) if request.xtc_probability else (),
        seed=int.from_bytes(os.urandom(8), "little") if request.seed is None else request.seed,
        logit_bias=dict(request.logit_bias),
        repetition_penalty=request.repetition_penalty,
        repetition_context_size=request.repetition_context_size,
        presence_penalty=request.presence_penalty,
        presence_context_size=request.presence_context_size,
        frequency_penalty=request.frequency_penalty,
        frequency_context_size=request.frequency_context_size,
        min_tokens=request.min_tokens,
        end_ids=end_ids,
        reasoning_end=() if request.max_reasoning_tokens is None else loaded.tokenizer.think_end_tokens,
        reasoning=reasoning,
        logprobs=request.logprobs,
    )


def eos_ids(request: GenerateRequest, loaded: LoadedModel) -> frozenset[int]:
    """The model's tokens that end this request's answer."""
    return frozenset() if request.ignore_eos else loaded.eos_ids


def _temperature(request: GenerateRequest) -> float:
    if request.temperature >= MIN_TEMPERATURE:
        return min(request.temperature, MAX_TEMPERATURE)
    # xtc may take the likeliest token away, so even next to no temperature is not greedy.
    return MIN_TEMPERATURE if request.xtc_probability else 0.0


def _xtc_spared(loaded: LoadedModel) -> tuple[int, ...]:
    """What mlx_lm's server spares: the ends of lines and answers."""
    return _drawable({*loaded.tokenizer.encode("\n"), *loaded.eos_ids}, loaded)


def _drawable(ids: Iterable[int], loaded: LoadedModel) -> tuple[int, ...]:
    """Those that the model has a logit for, in order: a tokenizer may know more tokens than its model."""
    return tuple(sorted(token for token in ids if token < loaded.vocabulary_size))


def _check_ids(ids: Iterable[int], field: str, loaded: LoadedModel) -> None:
    for token in ids:
        if token >= loaded.vocabulary_size:
            raise invalid(
                field,
                f"names token {token}, but the ids of {loaded.name} end at {loaded.vocabulary_size - 1}",
            )
