"""What runs before the first call leaves no trace but what it has warmed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine import warmup
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.warmup import warm_up
from tests.host.engine.architectures import make_model
from tests.host.engine.test_architectures import expected, prompts
from tests.host.engine.tiny import Answers


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3_text"])
def test_an_engine_is_as_new_afterwards(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(warmup, "is_gpu", lambda: True)
    monkeypatch.setattr(warmup, "is_new_length_dear", lambda: True)
    model = make_model(name)
    other = replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)
    engine = BatchEngine(other)
    before = engine.stats()
    warm_up(engine, replace(other, context_length=600))
    assert engine.stats() == {**before, "used_bytes": engine.stats()["used_bytes"]}
    assert not engine.has_work
    (prompt,) = prompts(4, [30])
    answers = Answers(engine)
    answers.submit(0, prompt=prompt, max_tokens=8)
    assert answers.finish().tokens[0] == expected(model, prompt, 8)


@pytest.mark.parametrize("context_length", [2, 3, 16, 64])
def test_a_short_context_is_enough(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, context_length: int
) -> None:
    monkeypatch.setattr(warmup, "is_gpu", lambda: True)
    short = replace(loaded, context_length=context_length)
    engine = BatchEngine(short)
    warm_up(engine, short)
    assert not engine.has_work


@pytest.mark.parametrize("limits", [{"max_batch": 1}, {"kv_bytes": 256 * 512}])
def test_an_engine_that_lets_nobody_wait_is_warmed_too(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    monkeypatch.setattr(warmup, "is_gpu", lambda: True)
    engine = BatchEngine(loaded, EngineLimits(max_waiting=0, **limits))
    warm_up(engine, loaded)
    assert not engine.has_work


def test_lengths_of_pieces_are_read(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "is_gpu", lambda: True)
    monkeypatch.setattr(warmup, "is_new_length_dear", lambda: True)
    read: list[tuple[int, int, int]] = []

    def watch(_model: object, num_rows: int, num_tokens: int, caches: list[object]) -> None:
        read.append((id(caches), num_rows, num_tokens))

    monkeypatch.setattr(warmup, "_read", watch)
    monkeypatch.setattr(warmup, "_rows_beside", lambda _plan: 4)
    long = replace(loaded, context_length=1100)
    warm_up(BatchEngine(long), long)
    short = list(range(16, 257, 16))
    assert [num_tokens for _, num_rows, num_tokens in read if num_rows == 1] == [256] * 4 + short
    assert len({caches for caches, *_ in read[:4]}) == 1
    together = {rows: [tokens for _, num_rows, tokens in read if num_rows == rows] for rows in (2, 4, 8, 16)}
    assert together == {2: short, 4: short, 8: [128] * 2, 16: [64] * 4}


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [([3.7, 4.3, 5.2, 8.3], 4), ([10.0, 14.0, 26.0, 50.0], 2), ([10.0, 19.0, 19.0, 19.0], 1)],
)
def test_prompts_share_a_step_if_that_takes_hardly_longer(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, seconds: list[float], rows: int
) -> None:
    monkeypatch.setattr(warmup, "is_gpu", lambda: True)
    monkeypatch.setattr(warmup, "is_new_length_dear", lambda: True)
    taken = dict(zip((1, 2, 4, 8), seconds, strict=True))
    monkeypatch.setattr(warmup, "_piece_seconds", lambda _plan, num_rows: taken[num_rows])
    long = replace(loaded, context_length=600)
    engine = BatchEngine(long)
    warm_up(engine, long)
    assert engine.rows_beside == rows


def test_the_cpu_needs_none(loaded: LoadedModel) -> None:
    if mx.default_device().type == mx.DeviceType.gpu:
        pytest.skip("a GPU")
    calls: list[int] = []

    class Engine:
        def submit(self, call: int, _request: object) -> None:
            calls.append(call)

    warm_up(Engine(), loaded)  # type: ignore[arg-type]
    assert not calls
