"""Runs what the first answers would otherwise wait for: a GPU builds or plans many of its kernels at their first use."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import mlx.core as mx
import numpy as np

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import can_be_padded, leaves, reserve
from mlxbridge.host.engine.device import is_gpu
from mlxbridge.host.engine.grammar.masks import restrict
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefill.prefill import MAX_GROUP_ROWS
from mlxbridge.host.engine.shapes import (
    MAX_ROWS_BESIDE,
    PIECE,
    PIECE_ALONE,
    capacity_for,
    is_new_length_dear,
    round_end,
    round_up,
)

# Longer prompts meet new lengths behind it: planning takes 0.1 s for 1,000 tokens, at load or then.
MAX_PLANNED_TOKENS = 16_384
# Pieces of several prompts take hardly longer than one's if it is not so many times as long: a device that is fast for
# its model waits for kernels to be started, however much each has to do.
_HARDLY_LONGER = 1.5

# The longest call: its prompt has more than one block of the prefix cache, and the last call begins like it.
_NUM_TOKENS = (150, 7, 20, 33, 180)
_LONGEST = 200
# Between them they use all there is to choose tokens with.
_SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.7, "top_p": 0.9, "min_p": 0.01},
    {"temperature": 1.0, "top_k": 20, "top_p": 0.9, "logprobs": 4},
    {"temperature": 1.0, "top_k": 1000, "xtc_probability": 0.5, "repetition_penalty": 1.1, "logprobs": 0},
    {"logit_bias": {0: 1.0}, "presence_penalty": 0.1, "frequency_penalty": 0.1, "min_tokens": 2},
)


def warm_up(engine: BatchEngine, loaded: LoadedModel) -> None:
    """Let an engine that has no calls answer a few, of no more than ``_LONGEST`` tokens, and read a long prompt if lengths are dear.

    Nothing on the CPU, which builds nothing. Afterwards the engine's counters are zero again.
    """
    if not is_gpu():
        return
    if is_new_length_dear() and can_be_padded(engine.plan.make()):
        longest = min(loaded.context_length or MAX_PLANNED_TOKENS, MAX_PLANNED_TOKENS)
        _plan_lengths(engine.plan, longest)
        if longest >= PIECE:
            engine.rows_beside = _rows_beside(engine.plan)
            _plan_rows(engine.plan, engine.rows_beside)
    if loaded.context_length is not None and loaded.context_length < _LONGEST:
        return
    for call, settings in enumerate(_SETTINGS):
        request = GenerateRequest(
            prompt=[0] * _NUM_TOKENS[call], max_tokens=4 + 2 * call, ignore_eos=True, **settings
        )
        try:
            engine.submit(call, request)
        except Overloaded:  # one at a time, then: so few may run and wait
            while engine.has_work:
                engine.step()
            engine.submit(call, request)
        engine.step()
    while engine.has_work:
        engine.step()
    _restrict(loaded)
    engine.start_afresh()


def _restrict(loaded: LoadedModel) -> None:
    """Mask logits as for constrained rows, without a grammar: few hosts are ever asked for one."""
    for places in (None, mx.array([1], dtype=mx.int32)):
        logits = loaded.model(mx.zeros((2, 1), dtype=mx.int32))[:, -1, :]
        num_rows = 2 if places is None else 1
        words = np.zeros((num_rows, logits.shape[1] // 32 + 1), dtype=np.uint32)
        mx.eval(restrict(logits, mx.array(words), places))


def _plan_lengths(plan: CachePlan, longest: int) -> None:
    for piece in (PIECE, PIECE_ALONE):
        caches = plan.make()
        for _ in range(0, longest - piece + 1, piece):
            _read(plan.model, 1, piece, caches)
    for length in _short_lengths(longest):
        _read(plan.model, 1, length, plan.make())


def _plan_rows(plan: CachePlan, rows_beside: int) -> None:
    """Short prompts that are read together: how many they are has plans of its own."""
    num_rows = 2
    while num_rows <= MAX_GROUP_ROWS:
        if num_rows <= rows_beside:
            for length in _short_lengths(PIECE):
                _read(plan.model, num_rows, length, plan.make())
        else:
            caches, piece = plan.make(), round_end(0, PIECE * rows_beside, num_rows)
            for _ in range(0, PIECE, piece):
                _read(plan.model, num_rows, piece, caches)
        num_rows *= 2


def _short_lengths(longest: int) -> list[int]:
    return sorted({round_up(length) for length in range(1, min(PIECE, longest))})


def _rows_beside(plan: CachePlan) -> int:
    """How many prompts' pieces may be read in one step: as many as take hardly longer than one's."""
    most, alone = 1, _piece_seconds(plan, 1)
    while most < MAX_ROWS_BESIDE and _piece_seconds(plan, 2 * most) <= _HARDLY_LONGER * alone:
        most *= 2
    return most


def _piece_seconds(plan: CachePlan, num_rows: int) -> float:
    """What a piece takes; the least of several, after one that plans it."""
    times = []
    for _ in range(4):
        started = perf_counter()
        _read(plan.model, num_rows, PIECE, plan.make())
        times.append(perf_counter() - started)
    return min(times[1:])


def _read(model: Any, num_rows: int, num_tokens: int, caches: list[Any]) -> None:
    end = next(iter(leaves(caches))).offset + num_tokens
    reserve(caches, end, capacity_for(end))
    model(mx.zeros((num_rows, num_tokens), dtype=mx.int32), cache=caches)
    mx.eval([item.state for item in caches])
