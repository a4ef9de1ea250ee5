"""What became of each request: side by side with the others, alone, and in mlx_lm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors

from bench.soak.models import mlx_lm_caches, reading_all
from bench.soak.requests import Arrival
from mlxbridge.errors import BridgeError
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest, Origin, Row
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.types import TokenLogprobs, Usage


@dataclass(slots=True)
class Answer:
    """All rows of one call."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    usage: Usage | None = None
    error: BridgeError | None = None

    def take(self, row: Row) -> None:
        """Add a row."""
        if self.is_over:
            raise RuntimeError(f"call {row.call} got a row after its last one")
        self.token_ids += row.token_ids
        self.text += row.text
        self.logprobs += row.logprobs or []
        self.usage, self.error = row.usage, row.error

    @property
    def is_over(self) -> bool:
        """Whether its last row has come."""
        return self.usage is not None or self.error is not None


def answer_together(engine: BatchEngine, arrivals: Iterable[Arrival]) -> dict[int, Answer]:
    """Submit and cancel as planned, and step until nothing is left."""
    answers: dict[int, Answer] = {}
    cancels: dict[int, list[int]] = {}
    coming = iter(arrivals)
    following = next(coming, None)
    step, due = 0, following.pause if following else 0
    while following or engine.has_work:
        while following and (step >= due or not engine.has_work):
            answers[following.number] = Answer()
            engine.submit(following.number, following.request, _origin(following))
            if following.patience is not None:
                cancels.setdefault(step + following.patience, []).append(following.number)
            following = next(coming, None)
            due = step + (following.pause if following else 0)
        for number in cancels.pop(step, []):
            if (row := engine.cancel(number)) is not None:
                answers[number].take(row)
        for row in engine.step():
            answers[row.call].take(row)
        step += 1
    return answers


def _origin(arrival: Arrival) -> Origin:
    deadline_at = None if arrival.deadline_s is None else monotonic() + arrival.deadline_s
    return Origin(guest=arrival.guest, cache_scope=arrival.cache_scope, deadline_at=deadline_at)


def answer_alone(engine: BatchEngine, request: GenerateRequest) -> Answer:
    """Run one request on an engine that has nothing else to do."""
    answer = Answer()
    engine.submit(0, request)
    while engine.has_work:
        for row in engine.step():
            answer.take(row)
    return answer


def mlx_lm_tokens(loaded: LoadedModel, request: GenerateRequest, limits: EngineLimits) -> list[int]:
    """What mlx_lm's own loop draws for a greedy request, not knowing when to stop."""
    prompt = request.prompt
    ids = loaded.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt or ())
    processors = make_logits_processors(
        logit_bias=dict(request.logit_bias),
        repetition_penalty=request.repetition_penalty if request.repetition_penalty != 1 else None,
        repetition_context_size=request.repetition_context_size,
        presence_penalty=request.presence_penalty,
        presence_context_size=request.presence_context_size,
        frequency_penalty=request.frequency_penalty,
        frequency_context_size=request.frequency_context_size,
    )
    with reading_all(loaded):  # it reads one token more than it gives
        steps = generate_step(
            mx.array(ids),
            loaded.model,
            max_tokens=request.max_tokens or 1,
            logits_processors=processors,
            prompt_cache=mlx_lm_caches(loaded, limits),
            # Its window hides the sinks from all tokens of a piece but the first.
            prefill_step_size=2048 if limits.kv_window is None else 1,
        )
        return [int(token) for token, _ in steps]
