from __future__ import annotations

from pathlib import Path
from typing import Any

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.facts import facts
from mlxbridge.host.engine.loader import LoadedModel, load
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


def facts_of(loaded: LoadedModel) -> dict[str, Any]:
    return facts(loaded, measure_footprint(CachePlan(loaded.model)))


def test_facts_of_a_float_model(loaded: LoadedModel) -> None:
    per_layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    parameters = 2 * per_layer + 2 * 384 * 64 + 64
    assert facts_of(loaded) == {
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "parameters": parameters,
        "bytes": 4 * parameters,
        "dtype": "float32",
        "quantization": None,
        "context_length": 512,
        "vocabulary_size": 384,
        "layers": 2,
        "kv_bytes_per_token": 2 * 2 * 2 * 16 * 4,
        "kv_bytes_fixed": 0,
        "tool_parser": None,
        "reasoning": False,
        "reasoning_choices": [],
        "keeps_reasoning": False,
        "tokenizer": {
            "bos_token": "<s>",
            "bos_token_id": loaded.tokenizer.bos_token_id,
            "eos_token": "</s>",
            "eos_token_id": loaded.tokenizer.eos_token_id,
            "pad_token": None,
            "pad_token_id": None,
            "unk_token": None,
            "unk_token_id": None,
            "eos_token_ids": [loaded.tokenizer.eos_token_id],
            "size": len(loaded.tokenizer),
            "has_chat_template": True,
            "kind": "bytes",
        },
    }


def test_facts_of_a_quantized_model_count_the_weights_it_stands_for(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    save_model(tmp_path, bits=4)
    save_tokenizer(byte_level_tokenizer(), tmp_path)
    quantized = facts_of(load(tmp_path, "quantized"))
    assert quantized["quantization"] == {"bits": 4, "group_size": 32}
    assert quantized["parameters"] == facts_of(loaded)["parameters"]
    assert quantized["bytes"] < facts_of(loaded)["bytes"] / 4
