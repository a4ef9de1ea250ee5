"""Both engines behind one small interface: submit, and step until there is nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.sample_utils import make_sampler

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request; without sampling it is greedy."""

    prompt: list[int]
    max_tokens: int
    sampling: dict[str, Any] | None = None


class Side(Protocol):
    """Something that answers requests step by step."""

    def submit(self, number: int, ask: Ask) -> None: ...

    def step(self) -> list[int]:
        """One step; the numbers of the requests that got a token."""

    def stop(self) -> None:
        """Give all requests up."""

    @property
    def is_busy(self) -> bool: ...


class Ours:
    """mlxbridge's engine, detokenizing and stop strings included."""

    def __init__(self, loaded: LoadedModel, engine: BatchEngine | None = None) -> None:
        self._engine = engine or BatchEngine(loaded)
        self._numbers: set[int] = set()

    def submit(self, number: int, ask: Ask) -> None:
        sampling = {**ask.sampling, "seed": number} if ask.sampling else {}
        self._numbers.add(number)
        self._engine.submit(number, GenerateRequest(prompt=ask.prompt, max_tokens=ask.max_tokens, **sampling))

    def step(self) -> list[int]:
        rows = self._engine.step()
        for row in rows:
            if row.error is not None:
                raise row.error
        return [row.call for row in rows if row.token_ids]

    def stop(self) -> None:
        for number in self._numbers:
            self._engine.cancel(number)

    @property
    def is_busy(self) -> bool:
        return self._engine.has_work


class MlxLm:
    """mlx_lm's BatchGenerator: tokens only, and one sampler a request, as its server makes them."""

    def __init__(self, loaded: LoadedModel, num_rows: int = 64) -> None:
        self._generator: Any = BatchGenerator(loaded.model, completion_batch_size=num_rows)
        self._numbers: dict[int, int] = {}

    def submit(self, number: int, ask: Ask) -> None:
        sampler = None
        if ask.sampling:
            options = {"temp" if key == "temperature" else key: value for key, value in ask.sampling.items()}
            sampler = make_sampler(**options)
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

    @property
    def is_busy(self) -> bool:
        return bool(self._numbers)


def generate_alone(loaded: LoadedModel, ask: Ask) -> Iterator[int]:
    """mlx_lm's own loop for one request."""
    for token, _ in generate_step(mx.array(ask.prompt), loaded.model, max_tokens=ask.max_tokens):
        yield int(token)


def tokens_per_second(side: Side, asks: list[Ask]) -> float:
    """Of all requests together, from when all of them have begun to when the first is over."""
    for number, ask in enumerate(asks):
        side.submit(number, ask)
    fewest = min(ask.max_tokens for ask in asks)
    counts, started, counted = [0] * len(asks), 0.0, 0
    rate = 0.0
    while side.is_busy:
        numbers = side.step()
        for number in numbers:
            counts[number] += 1
        if started and not rate:
            counted += len(numbers)
        if not started and min(counts):
            started = perf_counter()
        if not rate and max(counts) >= fewest:
            if not started:
                raise RuntimeError("the first answer ended before the last one began: ask for more tokens")
            rate = counted / (perf_counter() - started)
    return rate


def alone_tokens_per_second(loaded: LoadedModel, ask: Ask) -> float:
    """mlx_lm's loop, after the first token."""
    tokens = generate_alone(loaded, ask)
    next(tokens)
    started = perf_counter()
    return sum(1 for _ in tokens) / (perf_counter() - started)
