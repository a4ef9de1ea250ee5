"""LoRA adapters: each call's own, in one batch, beside calls without any."""

from __future__ import annotations

import json
import shutil
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxbridge.errors import InvalidArgument, ModelLoadFailed
from mlxbridge.host.engine import adapters as adapters_module
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import NOBODY, EngineLimits, Origin
from mlxbridge.host.engine.loader import load
from tests.host.engine.tiny import Answers, byte_level_tokenizer, save_model, save_tokenizer

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"num_layers": 2},
    "some": {"num_layers": 1, "keys": ["self_attn.q_proj", "mlp.down_proj", "lm_head"]},
    "dora": {"num_layers": 2, "use_dora": True},
}
PROMPT = (5, 9, 33, 70, 120, 64, 8, 300, 21, 17)


def save_adapter(model_folder: Path, folder: Path, *, seed: int = 1, **kind: Any) -> str:
    """An adapter that changes every answer, as ``mlx_lm.lora`` would have written it."""
    loaded: Any = mlx_lm.load(str(model_folder))
    use_dora, num_layers = kind.get("use_dora", False), kind["num_layers"]
    parameters = {
        "rank": 4,
        "scale": 8.0,
        "dropout": 0.5,
        **({"keys": kind["keys"]} if "keys" in kind else {}),
    }
    linear_to_lora_layers(loaded[0], num_layers, parameters, use_dora=use_dora)
    mx.random.seed(seed)
    leaves: Any = tree_flatten(loaded[0].parameters())
    weights = {
        name: mx.random.normal(leaf.shape) * 0.1 if name.endswith("lora_b") else leaf
        for name, leaf in leaves
        if name.rsplit(".", 1)[-1] in ("lora_a", "lora_b", "m")
    }
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {
        "fine_tune_type": "dora" if use_dora else "lora",
        "num_layers": num_layers,
        "lora_parameters": parameters,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module", params=[None, 8], ids=["float32", "8 bits"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "base"
    save_model(path, bits=request.param)
    save_tokenizer(byte_level_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def adapters(folder: Path) -> dict[str, str]:
    return {name: save_adapter(folder, folder.parent / name, **kind) for name, kind in KINDS.items()}


@pytest.fixture
def answers(folder: Path, adapters: dict[str, str]) -> Answers:
    return Answers(BatchEngine(load(folder, "base"), EngineLimits(max_batch=16), adapters=adapters))


def with_adapter(adapter: str | None) -> Origin:
    return Origin(adapter=adapter)


@cache
def load_with_mlx_lm(folder: Path, adapter: str | None) -> Any:
    return mlx_lm.load(str(folder), adapter_path=adapter)


@cache
def expected(folder: Path, adapter: str | None, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    """What mlx_lm makes of it, with the adapter loaded as mlx_lm does it."""
    model, tokenizer = load_with_mlx_lm(folder, adapter)
    tokens = [int(token) for token, _ in generate_step(mx.array(prompt), model, max_tokens=max_tokens)]
    return list(takewhile(lambda token: token not in tokenizer.eos_token_ids, tokens))


def test_every_call_has_its_own_adapter_in_a_changing_batch(
    folder: Path, adapters: dict[str, str], answers: Answers
) -> None:
    asked = [None, "lora", "some", "lora", "dora", None, "dora", "some", "lora", None]
    for call, adapter in enumerate(asked):
        answers.submit_for(with_adapter(adapter), call, prompt=PROMPT[call % 3 :], max_tokens=12 + call)
        answers.submit_for(with_adapter(adapter), 100 + call, prompt=PROMPT, max_tokens=40, temperature=1.0)
        answers.step(call % 3)
        if call % 2:
            answers.cancel(100 + call)
    answers.finish()
    wanted = [
        expected(folder, adapter and adapters[adapter], PROMPT[call % 3 :], 12 + call)
        for call, adapter in enumerate(asked)
    ]
    assert [answers.tokens[call] for call in range(len(asked))] == wanted
    assert len({tuple(tokens[:8]) for tokens in (wanted[0], wanted[3], wanted[6], wanted[9])}) > 2


def test_what_one_adapter_has_read_is_not_used_by_another(folder: Path, answers: Answers) -> None:
    prompt = [7 + i % 300 for i in range(150)]
    for call, adapter in enumerate((None, "lora", "dora", None, "lora", "dora")):
        answers.submit_for(with_adapter(adapter), call, prompt=prompt, max_tokens=3)
        answers.finish()
    cached = [usage.cached_tokens for call in range(6) if (usage := answers.last[call].usage) is not None]
    assert cached[:3] == [0, 0, 0] and min(cached[3:]) >= 64
    assert [answers.tokens[call] for call in range(3)] == [answers.tokens[call] for call in range(3, 6)]


def test_adapter_that_was_changed_is_another_one(folder: Path, tmp_path: Path) -> None:
    scopes = set()
    for seed in (1, 2):
        path = save_adapter(folder, tmp_path / str(seed), seed=seed, num_layers=2)
        adapters = BatchEngine(load(folder, "base"), adapters={"a": path})._adapters
        adapters.load("a")
        scopes.add(adapters.scope("a", "guest"))
    assert len(scopes) == 2 and "guest" not in scopes


def break_weights(folder: Path) -> None:
    (folder / "adapters.safetensors").write_bytes(b"\0" * 64)


def cut_weights(folder: Path) -> None:
    weights = folder / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def lack_weights(folder: Path) -> None:
    (folder / "adapters.safetensors").unlink()


def be_peft(folder: Path) -> None:
    (folder / "adapters.safetensors").rename(folder / "adapter_model.safetensors")


def be_full(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"fine_tune_type": "full"}')


def lack_scale(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["lora_parameters"]["scale"]
    (folder / "adapter_config.json").write_text(json.dumps(config))


def lack_a_weight(folder: Path) -> None:
    weights: dict[str, Any] = mx.load(str(folder / "adapters.safetensors"))  # type: ignore[assignment]
    del weights["model.layers.1.mlp.up_proj.lora_a"]
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)


def be_of_another_model(folder: Path) -> None:
    weights: dict[str, Any] = mx.load(str(folder / "adapters.safetensors"))  # type: ignore[assignment]
    mx.save_safetensors(
        str(folder / "adapters.safetensors"), {name: weight[:-1] for name, weight in weights.items()}
    )


@pytest.mark.parametrize("folder", [None], ids=["float32"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_weights, "adapters.safetensors is damaged or cut off"),
        (cut_weights, "adapters.safetensors is damaged or cut off"),
        (lack_weights, "lacks adapters.safetensors, which mlx_lm.lora writes"),
        (be_peft, "it is PEFT's"),
        (be_full, "fine_tune_type is 'full'"),
        (lack_scale, "scale"),
        (lack_a_weight, "lacks model.layers.1.mlp.up_proj.lora_a, one of 1"),
        (be_of_another_model, "does not match model parameter shape"),
    ],
)
def test_adapter_that_cannot_be_loaded_fails_its_call_alone(
    folder: Path, adapters: dict[str, str], tmp_path: Path, spoil: Any, message: str
) -> None:
    good, bad = adapters["lora"], str(tmp_path / "bad")
    shutil.copytree(good, bad)
    spoil(Path(bad))
    answers = Answers(BatchEngine(load(folder, "base"), adapters={"good": good, "bad": bad}))
    answers.submit_for(NOBODY, 1, prompt=PROMPT, max_tokens=20)
    answers.submit_for(with_adapter("good"), 2, prompt=PROMPT, max_tokens=20)
    answers.step(4)
    with pytest.raises(ModelLoadFailed, match=rf"cannot load the adapter bad of base.*{message}"):
        answers.submit_for(with_adapter("bad"), 3, prompt=PROMPT, max_tokens=20)
    answers.finish()
    assert answers.tokens[1] == expected(folder, None, PROMPT, 20)
    assert answers.tokens[2] == expected(folder, good, PROMPT, 20)


def test_damaged_adapter_is_read_once_and_again_when_its_files_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    monkeypatch.setattr(adapters_module, "load_adapters", lambda model, path: reads.append(path))
    path = save_adapter(folder, tmp_path / "a", num_layers=2)
    config = tmp_path / "a/adapter_config.json"
    adapters = BatchEngine(load(folder, "base"), adapters={"a": path})._adapters
    monkeypatch.setattr(adapters_module, "_check_weights", Mock(side_effect=ValueError("it does not fit")))
    for _ in range(3):
        with pytest.raises(
            ModelLoadFailed, match="cannot load the adapter a of base from .*: it does not fit"
        ):
            adapters.load("a")
    assert len(reads) == 1
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelLoadFailed):
        adapters.load("a")
    assert len(reads) == 2
    monkeypatch.undo()
    config.write_text(config.read_text() + " ")
    adapters.load("a")
    assert adapters.scope("a", "guest") != "guest"


def test_adapter_that_is_not_there_is_refused_by_name(answers: Answers) -> None:
    with pytest.raises(InvalidArgument, match="base has no adapter 'lorra'; it has lora, some, dora"):
        answers.submit_for(with_adapter("lorra"), 1, prompt=PROMPT, max_tokens=2)
    assert answers.engine.describe()["adapters"] == ["lora", "some", "dora"]
