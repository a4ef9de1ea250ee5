"""Nothing that is computed lazily may pile up while answers run: each array of a chain keeps a buffer."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import pytest

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import ONE_OF_A_KIND, make_model
from tests.host.engine.tiny import Answers

# What is left of the prompts, and of shorter buffers, is gone after so many steps.
NUM_STEPS_TO_SETTLE = 270
NUM_STEPS = 100
# A chain grows by one array a step and layer, and the smallest takes four bytes.
SMALLEST_LEAK_BYTES = 4 * NUM_STEPS


def bytes_beside_caches(engine: BatchEngine) -> int:
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    return mx.get_active_memory() - engine.stats()["kv_bytes_used"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [*((name, 3) for name in (*ONE_OF_A_KIND, "mamba2")), ("llama", 1), ("mamba", 1), ("lfm2", 1)],
)
def test_memory_beside_the_caches_stays_what_it_was(
    make_engine: Callable[..., BatchEngine], loaded: LoadedModel, name: str, rows: int
) -> None:
    model = replace(loaded, model=make_model(name), eos_ids=frozenset(), context_length=2048)
    answers = Answers(make_engine(model, prefix_cache_bytes=0))
    for call in range(rows):
        # Prompts of one token leave states and windows empty when their rows join each other.
        answers.submit(call, prompt=[5], max_tokens=400, temperature=1.0, seed=call)
    answers.step(NUM_STEPS_TO_SETTLE)
    before = bytes_beside_caches(answers.engine)
    answers.step(NUM_STEPS)
    assert answers.engine.stats()["running"] == rows
    assert bytes_beside_caches(answers.engine) - before < SMALLEST_LEAK_BYTES / 2
