"""A smaller model of the same vocabulary, which drafts what the model itself then checks (Leviathan et al. 2023)."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxbridge.host.engine.attention import attention
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import Source, can_be_padded
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefill.prefill import Prefill
from mlxbridge.host.engine.prefixes.prefix_cache import PrefixCache
from mlxbridge.host.engine.rows import Job

# Prompt tokens a step: of a model a tenth as large, what running answers hardly feel.
_READ_TOKENS = 512


def difference(draft: LoadedModel, loaded: LoadedModel) -> str | None:
    """Why a model cannot draft for another one, for a message; None if it can."""
    if not can_be_padded(CachePlan(draft.model).make()):
        return (
            f"the sliding windows or recurrent states of {draft.name} cannot take back what it drafted wrong"
        )
    own, other = draft.tokenizer.get_vocab(), loaded.tokenizer.get_vocab()
    if own == other:
        return None
    wrong = next(token for token in {**other, **own} if own.get(token) != other.get(token))
    return (
        f"their vocabularies differ ({wrong[:50]!r} is token {other.get(wrong)} of the one, {own.get(wrong)} of the "
        "other); choose a smaller model of the same family"
    )


class DraftModel:
    """A draft model, and the prompts that it is reading; one for all lanes.

    Attributes:
        name: what users call it.
        num_weight_bytes: what its weights take.
        footprint: what its caches take.
        context_length: tokens that it was made for, None if it does not say.
        prefixes: what it has read before.
    """

    def __init__(self, draft: LoadedModel, loaded: LoadedModel) -> None:
        """Take a model that has no ``difference``."""
        attention.install(draft.model)
        self.name = draft.name
        self.footprint = measure_footprint(CachePlan(draft.model))
        weights: Any = tree_flatten(draft.model.parameters())
        self.num_weight_bytes = sum(weight.nbytes for _, weight in weights)
        self.context_length = draft.context_length
        self._model = draft.model
        self._num_ids = draft.vocabulary_size
        self._num_ids_wanted = loaded.vocabulary_size
        # By whose context it is: the job that reads it here.
        self._reading: dict[Job, Job] = {}
        self.start_afresh(0)

    def start_afresh(self, prefix_bytes: int) -> None:
        """Forget all that was read; contexts that may come again may take so much memory."""
        self.prefixes = PrefixCache(CachePlan(self._model), prefix_bytes)
        self._prefill = Prefill(self._model, self.prefixes)
        self._reading.clear()

    @property
    def num_bytes(self) -> int:
        """What the caches of prompts take that are being read."""
        return self._prefill.num_bytes

    @property
    def is_reading(self) -> bool:
        """Whether the next ``step`` takes time."""
        return bool(self._reading)

    def begin(self, job: Job) -> None:
        """Read a job's context, but for its last token, from the next ``step`` on."""
        self._reading[job] = Job(prompt=job.context, max_tokens=1, scope=job.scope)
        self._prefill.add(self._reading[job])

    def forget(self, job: Job) -> None:
        """A job's row has gone; its context need not be read any further."""
        if (reading := self._reading.pop(job, None)) is not None:
            reading.ended = True
        if not self._reading:
            self._prefill.clear()

    def step(self) -> dict[Job, Source | None]:
        """Read on, if there is anything to read; whose contexts have been read to the end, None where that failed."""
        if not self._reading:
            self.prefixes.commit()
            return {}
        progress = self._prefill.step(_READ_TOKENS, is_alone=False)
        whose = {reading: job for job, reading in self._reading.items()}
        done: dict[Job, Source | None] = {
            whose[ready.job]: ready.source for ready in progress.ready if ready.job in whose
        }
        done |= {whose[reading]: None for reading, _ in progress.failed if reading in whose}
        for job in done:
            del self._reading[job]
        return done

    def forward(self, tokens: mx.array, caches: list[Any]) -> mx.array:
        """Logits behind each token, for all ids that the other model has.

        Args:
            tokens: uint32 array (rows, tokens).
            caches: of all layers.

        Returns:
            float array (rows, tokens, the other model's vocabulary size); what this one does not have is impossible.
        """
        # Models of a family may have unequally many rows for tokens that do not exist.
        if self._num_ids < self._num_ids_wanted:
            tokens = mx.minimum(tokens, self._num_ids - 1)
        logits: mx.array = self._model(tokens, cache=caches)
        if (num_missing := self._num_ids_wanted - logits.shape[-1]) <= 0:
            return logits[..., : self._num_ids_wanted]
        filler = mx.full((*logits.shape[:-1], num_missing), -math.inf, dtype=logits.dtype)
        return mx.concatenate([logits, filler], axis=-1)
