from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_map

from mlxbridge.host.engine.caches.cache_plan import CachePlan, Window
from mlxbridge.host.engine.caches.quantized_cache import Quantization
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.prefixes import fingerprint as module
from mlxbridge.host.engine.prefixes.cache_parts import CacheParts
from mlxbridge.host.engine.prefixes.fingerprint import fingerprint
from mlxbridge.host.engine.prefixes.part_forms import PartForms
from tests.host.engine.architectures import LARGE_HEADS, make_model
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer

flatten: Any = tree_flatten


def fingerprint_of(loaded: LoadedModel, plan: CachePlan | None = None) -> str:
    plan = plan or CachePlan(loaded.model)
    return fingerprint(loaded, plan, PartForms(plan, CacheParts(plan)))


def test_same_model_has_the_same_one_wherever_it_lies(loaded: LoadedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "elsewhere", shards=2)
    save_tokenizer(byte_level_tokenizer(), tmp_path / "elsewhere")
    found = fingerprint_of(load(tmp_path / "elsewhere", "other name"))
    assert found == fingerprint_of(loaded)
    assert len(bytes.fromhex(found)) == 16


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_every_weight_counts(loaded: LoadedModel, name: str) -> None:
    """One bit of one number, at either end of each array."""
    model = make_model(name)
    own = replace(loaded, model=model)
    seen = {fingerprint_of(own)}
    leaves: dict[str, mx.array] = dict(flatten(model.parameters()))
    for path, leaf in leaves.items():
        for place in (0, -1):
            changed = mx.array(leaf).reshape(-1).view(mx.uint32)
            changed[place] = changed[place] ^ 1
            model.load_weights([(path, changed.view(leaf.dtype).reshape(leaf.shape))], strict=False)
            seen.add(fingerprint_of(own))
            model.load_weights([(path, leaf)], strict=False)
    assert len(seen) == 1 + 2 * len(leaves)


def test_config_dtype_and_versions_count(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    own = replace(loaded, model=model)
    seen = {fingerprint_of(own)}
    seen.add(fingerprint_of(replace(own, config={**own.config, "rope_theta": 5.0})))
    for number in (2, 3):
        monkeypatch.setattr(module, "_FORMAT", number)
        seen.add(fingerprint_of(own))
    monkeypatch.undo()
    monkeypatch.setattr(module, "version", lambda name: f"0.0.1 of {name}")
    seen.add(fingerprint_of(own))
    monkeypatch.undo()
    model.update(tree_map(lambda leaf: leaf.astype(mx.bfloat16), model.parameters()))
    seen.add(fingerprint_of(own))
    assert len(seen) == 6


def test_settings_of_the_caches_count(loaded: LoadedModel) -> None:
    model = make_model("llama", **LARGE_HEADS)
    loaded = replace(loaded, model=model)
    plans = [CachePlan(model)]
    plans += [CachePlan(model, window=Window(*window)) for window in ((12, 4), (13, 4), (13, 5))]
    plans += [CachePlan(model, Quantization(*how)) for how in ((8, 32), (4, 32))]
    assert len({fingerprint_of(loaded, plan) for plan in plans}) == len(plans)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (1000, 33)])
@pytest.mark.parametrize("dtype", [mx.float16, mx.uint8, mx.float32])
def test_arrays_of_every_size_are_summed_up(shape: tuple[int, ...], dtype: mx.Dtype) -> None:
    array = mx.ones(shape, dtype)
    number = module._sum(array)
    assert 0 < number < 1 << 32
    assert number == module._sum(mx.array(array)) != module._sum(array * 2)


def test_order_counts_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_WORDS", 16)
    halves: list[Any] = [mx.random.uniform(shape=(16,)) for _ in range(2)]
    assert module._sum(mx.concatenate(halves)) != module._sum(mx.concatenate(halves[::-1]))
