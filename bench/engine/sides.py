"""Both engines behind one small interface: submit, and step until there is nothing left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.sample_utils import make_sampler

from mlxbridge.host.engine.attention import attention
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.types import Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request; without sampling it is greedy, without a format free, and without ``speculation`` nothing is drafted."""

    prompt: list[int]
    max_tokens: int
    sampling: dict[str, Any] | None = None
    response_format: Source | None = None
    speculation: Speculation = "off"


class Side(Protocol):
    """Something that answers requests step by step."""

    def submit(self, number: int, ask: Ask) -> None: ...

    def step(self) -> list[int]:
        """One step; for each token the number of the request that got it."""

    def stop(self) -> None:
        """Give all requests up; nothing is submitted afterwards."""

    @property
    def is_busy(self) -> bool: ...


class Ours:
    """mlxbridge's engine with everything it does for a call: text, stop strings, usage, storing of prefixes."""

    def __init__(self, loaded: LoadedModel, engine: BatchEngine) -> None:
        attention.install(loaded.model)
        self._engine = engine
        self._numbers: set[int] = set()

    def submit(self, number: int, ask: Ask) -> None:
        sampling = {**ask.sampling, "seed": number} if ask.sampling else {}
        self._numbers.add(number)
        request = GenerateRequest(
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
            response_format=ask.response_format,
            speculation=ask.speculation,
            **sampling,
        )
        self._engine.submit(number, request)

    def step(self) -> list[int]:
        rows = self._engine.step()
        for row in rows:
            if row.error is not None:
                raise row.error
        return [row.call for row in rows for _ in row.token_ids]

    def stop(self) -> None:
        for number in self._numbers:
            self._engine.cancel(number)
        self._numbers.clear()

    @property
    def is_busy(self) -> bool:
        return self._engine.has_work


class MlxLm:
    """mlx_lm's BatchGenerator: tokens only, and one sampler a request, as its server makes them."""

    def __init__(self, loaded: LoadedModel, *, num_rows: int = 64, prefill_step: int = 2048) -> None:
        """Make a generator as mlx_lm's server would, but for ``num_rows``, whose default there is 32."""
        give_attention_back(loaded.model)
        self._generator: Any = BatchGenerator(
            loaded.model, completion_batch_size=num_rows, prefill_step_size=prefill_step
        )
        self._numbers: dict[int, int] = {}

    def submit(self, number: int, ask: Ask) -> None:
        sampler = sampler_of(ask.sampling) if ask.sampling else None
        (uid,) = self._generator.insert([ask.prompt], max_tokens=[ask.max_tokens], samplers=[sampler])
        self._numbers[uid] = number

    def step(self) -> list[int]:
        _, responses = self._generator.next()
        numbers = [self._numbers[response.uid] for response in responses]
        for response in responses:
            if response.finish_reason is not None:
                del self._numbers[response.uid]
        return numbers

    def stop(self) -> None:
        self._generator.remove(list(self._numbers))
        self._numbers.clear()
        self._generator.close()

    @property
    def is_busy(self) -> bool:
        return bool(self._numbers)


def sampler_of(sampling: dict[str, Any]) -> Any:
    """mlx_lm's sampler for a request's settings."""
    return make_sampler(**{"temp" if key == "temperature" else key: value for key, value in sampling.items()})


def generate_alone(loaded: LoadedModel, ask: Ask) -> Iterator[int]:
    """mlx_lm's own loop for one request."""
    give_attention_back(loaded.model)
    for token, _ in generate_step(mx.array(ask.prompt), loaded.model, max_tokens=ask.max_tokens):
        yield int(token)


def give_attention_back(model: Any) -> None:
    """Undo ``attention.install``, which on CUDA puts a function of ours before mlx_lm's in the model's modules."""
    for name in {type(part).__module__ for part in model.modules()}:
        module: Any = sys.modules[name]
        installed = getattr(module, "scaled_dot_product_attention", None)
        if (original := getattr(installed, "__wrapped__", None)) is not None:
            module.scaled_dot_product_attention = original
