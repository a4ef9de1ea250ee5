"""Which cases there are, for what was asked on the command line."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

from bench.engine import cases, models
from bench.engine.cases import Found, Work
from bench.engine.sides import MlxLm, Ours, Side
from bench.shapes import SHAPES
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import GROUP_SIZES, KV_BITS, EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.warmup import warm_up
from mlxbridge.types import Speculation

# The rates that are measured at each batch size, and what is special about their requests.
KINDS: dict[str, dict[str, bool]] = {
    "greedy": {"is_uneven": True},
    "own sampling": {"is_uneven": True, "has_own_sampling": True},
}
# How tokens are drafted, and what that is called; and the batch sizes.
DRAFTS: dict[Speculation, str] = {"ngram": "by lookup", "draft": "by a model"}
DRAFT_ROWS = (1, 4, 16, 64)
_NUM_BESIDE_LONG = 8
_NUM_CONSTRAINED = 32
_NUM_LONG = 8
_LONG_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure on two sides, ours first, given a round's number."""

    name: str
    kind: str
    num_rows: int | None
    sides: dict[str, Callable[[int], Found]]


class Plan:
    """All cases. Models and engines are made in the round that warms up, for the first case that needs them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._most: int = max(arguments.rows)
        # Prompts of their own for runs whose sides are one engine, which keeps what it has read.
        self._own = count()

    def cases(self) -> Iterator[Case]:
        """In the order in which they are run, but for that of their sides."""
        most = self._most
        yield self._alone()
        for num_rows in self._arguments.rows:
            for kind, options in KINDS.items():
                yield self._rates(f"{num_rows} {kind}", kind, num_rows, self._work(**options))
        yield self._rates(f"{most} greedy, one length", "one length", most, self._work())
        yield self._coming_and_going()
        yield self._constrained()
        for speculation in DRAFTS:
            for num_rows in DRAFT_ROWS:
                if num_rows <= most:
                    yield self._speculation(speculation, num_rows)
        if self._can_quantize:
            for bits in KV_BITS:
                yield self._kv_bits(bits)
        if self._arguments.long_prompt:
            yield self._long_prompt()

    @cached_property
    def _plain(self) -> tuple[LoadedModel, BatchEngine]:
        loaded = models.make(self._arguments.shape, self._arguments.dtype)
        return loaded, _warm(BatchEngine(loaded), loaded)

    @cached_property
    def _drafting(self) -> tuple[LoadedModel, BatchEngine]:
        loaded, draft = models.make_rounds(self._arguments.shape, self._arguments.dtype)
        return loaded, _warm(BatchEngine(loaded, draft=draft), loaded)

    @property
    def _can_quantize(self) -> bool:
        shape = SHAPES[self._arguments.shape]
        head_dim: int = shape.get("head_dim", shape["hidden_size"] // shape["num_attention_heads"])
        return head_dim % min(GROUP_SIZES) == 0

    @cached_property
    def _quantizing(self) -> dict[int, BatchEngine]:
        loaded, _ = self._plain
        return {bits: _warm(BatchEngine(loaded, EngineLimits(kv_bits=bits)), loaded) for bits in KV_BITS}

    def _ours(self) -> Side:
        return Ours(*self._plain)

    def _mlx_lm(self) -> Side:
        loaded, _ = self._plain
        return MlxLm(loaded, prefill_step=self._arguments.mlx_lm_chunk)

    def _work(self, **options: Any) -> Work:
        usual = {"prompt_tokens": self._arguments.prompt_tokens, "max_tokens": self._arguments.tokens}
        return Work(vocabulary=SHAPES[self._arguments.shape]["vocab_size"], **{**usual, **options})

    def _case(self, name: str, kind: str, num_rows: int | None, run: Callable[[Side, int], Found]) -> Case:
        sides: dict[str, Callable[[int], Found]] = {
            "ours": lambda number: run(self._ours(), number),
            "mlx_lm": lambda number: run(self._mlx_lm(), number),
        }
        return Case(name, kind, num_rows, sides)

    def _rates(self, name: str, kind: str, num_rows: int, work: Work) -> Case:
        return self._case(
            name, kind, num_rows, lambda side, number: cases.rate(side, work.asks(num_rows, number))
        )

    def _alone(self) -> Case:
        work = self._work(max_tokens=4 * self._arguments.tokens)
        case = self._rates("alone", "alone", 1, work)
        case.sides["mlx_lm"] = lambda number: cases.rate_of_generate_step(
            self._plain[0], work.asks(1, number)[0]
        )
        return case

    def _coming_and_going(self) -> Case:
        most, num_steps = self._most, self._arguments.tokens
        return self._case(
            f"{most} coming and going",
            "churn",
            most,
            lambda side, number: cases.churn(side, most, self._work(), number, num_steps),
        )

    def _constrained(self) -> Case:
        num_rows = min(self._most, _NUM_CONSTRAINED)

        def on(work: Work) -> Callable[[int], Found]:
            return lambda _: cases.rate(self._ours(), work.asks(num_rows, next(self._own)))

        sides = {"ours": on(self._work(has_own_format=True)), "ours, free": on(self._work())}
        return Case(f"{num_rows} constrained", "constrained", num_rows, sides)

    def _speculation(self, speculation: Speculation, num_rows: int) -> Case:
        def on(asked: Speculation) -> Callable[[int], Found]:
            work = self._work(max_tokens=2 * self._arguments.tokens, speculation=asked)

            def run(_: int) -> Found:
                loaded, engine = self._drafting
                asks = work.asks(num_rows, next(self._own))
                return cases.rate_with_steps(engine, Ours(loaded, engine), asks)

            return run

        sides = {"ours": on(speculation), "ours, no drafts": on("off")}
        return Case(f"speculation {DRAFTS[speculation]}, {num_rows}", "speculation", num_rows, sides)

    def _kv_bits(self, bits: int) -> Case:
        num_rows = min(self._most, _NUM_LONG)
        work = self._work(prompt_tokens=_LONG_TOKENS)

        def quantized(number: int) -> Found:
            loaded, _ = self._plain
            return cases.rate(Ours(loaded, self._quantizing[bits]), work.asks(num_rows, number))

        def full(_: int) -> Found:
            return cases.rate(self._ours(), work.asks(num_rows, next(self._own)))

        name = f"{num_rows} with keys and values in {bits} bits"
        return Case(name, "kv bits", num_rows, {"ours": quantized, "ours, all bits": full})

    def _long_prompt(self) -> Case:
        beside = self._work(max_tokens=8192)
        long = self._work(max_tokens=2, prompt_tokens=self._arguments.long_prompt)
        short = self._work(max_tokens=2)
        return self._case(
            "long prompt",
            "long prompt",
            None,
            lambda side, number: cases.long_prompt_beside(
                side,
                beside.asks(_NUM_BESIDE_LONG, number),
                long.asks(1, number)[0],
                short.asks(2, number)[1],  # it does not begin like the long one
            ),
        )


def _warm(engine: BatchEngine, loaded: LoadedModel) -> BatchEngine:
    """As a worker does it, and with a garbage collector that skips what is there now."""
    warm_up(engine, loaded)
    gc.collect()
    gc.freeze()
    return engine
