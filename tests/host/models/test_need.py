"""What a model's files say it needs, and what it gets of a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import BY_CODE, ModelLoadFailed, ModelTooLarge, from_wire, to_wire
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.need import Need, estimate_need, share_of
from mlxbridge.host.models.settings import ModelSettings

MIB = 1 << 20
LLAMA = {
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
LLAMA_TOKEN_BYTES = 16 * 2 * 8 * 64 * 2


def folder_of(path: Path, config: Any, *sizes: int) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    for number, size in enumerate(sizes, 1):
        with (path / f"model-{number:05}-of-{len(sizes):05}.safetensors").open("wb") as file:
            file.truncate(size)
    return path


def test_weights_of_all_files_and_one_call_of_some_thousand_tokens(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", LLAMA, 900 * MIB, 100 * MIB)
    (folder / "consolidated.safetensors").write_bytes(b"x" * 1000)  # mlx_lm does not read it
    need = estimate_need([folder], EngineLimits())
    assert need.weight_bytes == 1000 * MIB
    assert 4096 * LLAMA_TOKEN_BYTES < need.cache_bytes * 7 / 8 < 1.2 * 4096 * LLAMA_TOKEN_BYTES
    assert need.is_open


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"torch_dtype": "float32"}, 2.0),
        ({"num_key_value_heads": None}, 4.0),
        ({"head_dim": None}, 1.0),
        ({"text_config": {"num_hidden_layers": 32}}, 2.0),
        ({"kv_lora_rank": 448, "qk_rope_head_dim": 64}, 0.5),
    ],
)
def test_caches_are_told_from_the_config(tmp_path: Path, change: dict[str, Any], factor: float) -> None:
    plain = estimate_need([folder_of(tmp_path / "a", LLAMA, MIB)], EngineLimits())
    other = estimate_need([folder_of(tmp_path / "b", {**LLAMA, **change}, MIB)], EngineLimits())
    assert other.cache_bytes == pytest.approx(factor * plain.cache_bytes, rel=1e-3)


@pytest.mark.parametrize("config", [{}, {"num_hidden_layers": "many", "num_attention_heads": 1}, [], "x"])
def test_config_that_does_not_say_gives_a_share_of_the_weights(tmp_path: Path, config: Any) -> None:
    need = estimate_need([folder_of(tmp_path / "m", config, 80 * MIB)], EngineLimits())
    assert 10 * MIB <= need.cache_bytes < 12 * MIB


def test_draft_model_counts_too(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / name, LLAMA, size) for name, size in (("a", 100), ("b", 7))]
    both = estimate_need(folders, EngineLimits())
    assert both.weight_bytes == 107
    assert both.cache_bytes == pytest.approx(
        2 * estimate_need(folders[:1], EngineLimits()).cache_bytes, abs=2
    )


def test_configured_caches_are_what_is_needed_and_no_more(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", LLAMA, 100)
    need = estimate_need([folder], EngineLimits(kv_bytes=800, prefix_cache_bytes=50))
    assert need == Need(weight_bytes=100, cache_bytes=850, is_open=False)
    assert estimate_need([folder], EngineLimits(kv_bytes=800)).cache_bytes == 900
    assert share_of("m", need, [], 10_000) == 950


def test_model_of_vectors_needs_its_largest_batch_and_no_more(tmp_path: Path) -> None:
    bert = {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    need = estimate_need([folder_of(tmp_path / "m", bert, 90 * MIB)], EngineLimits(kv_bytes=1 << 40))
    assert need.weight_bytes == 90 * MIB and not need.is_open
    assert 100 * MIB < need.cache_bytes < 400 * MIB


def test_model_of_vectors_that_cannot_fit_is_told_what_its_memory_is_for(tmp_path: Path) -> None:
    bert = {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    need = estimate_need([folder_of(tmp_path / "m", bert, 90 * MIB)], EngineLimits())
    with pytest.raises(ModelTooLarge, match=r"\(weights 90\.00 MB, its largest batch 288\.00 MB\)") as caught:
        share_of("m", need, [], 100 * MIB)
    assert caught.value.message.endswith("or change the host's --memory")


def test_demo_needs_what_its_files_say() -> None:
    source = ModelSettings.of("demo").source
    assert source.folder is not None
    need = estimate_need([source.folder], EngineLimits())
    assert 3 * MIB < need.weight_bytes < 4 * MIB < need.least_bytes < 10 * MIB


def test_folder_that_cannot_be_read_fails_the_load(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="nowhere"):
        estimate_need([tmp_path / "nowhere"], EngineLimits())


def need(weights: int, caches: int = 10, *, is_open: bool = True) -> Need:
    return Need(weight_bytes=weights, cache_bytes=caches, is_open=is_open)


def test_single_model_gets_all_there_is() -> None:
    assert share_of("a", need(100), [], 1000) == 1000


def test_models_that_fit_together_share_what_is_left() -> None:
    models = [need(100), need(300), need(50, is_open=False)]
    shares = [share_of("m", each, [other for other in models if other is not each], 1000) for each in models]
    assert shares == [110 + 260, 310 + 260, 60]
    assert sum(shares) == 1000


@pytest.mark.parametrize("others", [[need(900)], [None], [need(1), None]])
def test_models_that_do_not_get_a_fixed_share_for_their_caches(others: list[Need | None]) -> None:
    assert share_of("a", need(100), others, 1000) == 100 + 125
    assert share_of("a", need(100, 200), others, 1000) == 300  # one call takes more
    assert share_of("a", need(950), others, 1000) == 1000  # weights leave less


def test_model_that_cannot_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        ModelTooLarge, match=r"big needs 1\.50 GB of memory .* but there are 1,023\.00 MB"
    ) as caught:
        share_of("big", need(1024 * MIB, 512 * MIB), [], 1023 * MIB)
    assert caught.value.details == {"needed_bytes": 1536 * MIB, "budget_bytes": 1023 * MIB}
    again = from_wire(to_wire(caught.value))
    assert type(again) is BY_CODE[29] is ModelTooLarge
    assert isinstance(again, ModelLoadFailed) and not again.retryable
    assert again.details == caught.value.details
