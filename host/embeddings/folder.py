"""What the files of an embedding model or a reranker say, beside its weights.

They are those of sentence-transformers: ``modules.json`` names the steps from tokens to vector, each with a folder of its
own; ``config_sentence_transformers.json`` has prompts. Folders from before 2025 and those of its version 6 are both read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.limits import LIMITS, stated_limit
from mlxbridge.host.embeddings.pooling import Pooling, as_pooling
from mlxbridge.host.embeddings.tokenizer import TokenizerSettings

MODULES = "modules.json"
_SETTINGS = "config_sentence_transformers.json"
_POOLING_FLAG = "pooling_mode_"
_POOLING_NAMES = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "lasttoken": "lasttoken",
    "max_tokens": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """What a folder says.

    Attributes:
        folder: where ``config.json``, the weights and the tokenizer are; a folder within the model's, maybe.
        config: ``config.json``.
        max_tokens: of an input, None if no file says.
        tokenizing: what is said of it beside ``tokenizer.json``.
        pooling: None if there is no ``modules.json``.
        projections: folders of dense layers behind pooling, in their order.
        normalizes: whether vectors have length 1 in the end.
        prompts: by name; "" is none.
        default_prompt_name: of the prompt that inputs have where a request says nothing.
        dimensions: first numbers of a vector to keep, None for all.
        activation: of a reranker's scores, by torch's name; None if no file says.
    """

    folder: Path
    config: dict[str, Any] = field(repr=False)
    max_tokens: int | None
    tokenizing: TokenizerSettings
    pooling: Pooling | None
    projections: tuple[Path, ...]
    normalizes: bool
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    dimensions: int | None
    activation: str | None


def read_files(folder: Path) -> ModelFiles:
    """Read a model's folder.

    Raises:
        ModelLoadFailed: a file is damaged, or asks for a step that is not known here.
    """
    steps = _steps(folder)
    inner = steps.transformer
    config = read_json(inner / "config.json")
    limits: dict[str, Any] = {}
    for path in sorted(inner.glob(LIMITS)):
        limits = read_json(path)
    tokenizer = _read_if_there(inner / "tokenizer_config.json")
    settings = _read_if_there(folder / _SETTINGS)
    prompts = _prompts(settings)
    return ModelFiles(
        folder=inner,
        config=config,
        max_tokens=stated_limit(limits, tokenizer),
        tokenizing=TokenizerSettings(
            lowercases=bool(limits.get("do_lower_case")),
            has_types="token_type_ids" in tokenizer.get("model_input_names", ["token_type_ids"]),
            first_token=_added_token(tokenizer, "bos"),
            last_token=_added_token(tokenizer, "eos"),
        ),
        pooling=steps.pooling,
        projections=tuple(steps.projections),
        normalizes=steps.normalizes,
        prompts=prompts,
        default_prompt_name=_default_prompt(settings, prompts),
        dimensions=settings.get("truncate_dim"),
        activation=_activation(config, settings),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ModelLoadFailed: it is missing or damaged, or holds something else.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise ModelLoadFailed(f"{path.name} holds no object")
    return found


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ModelLoadFailed(f"{path.name} cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise ModelLoadFailed(f"{path.name} is damaged ({exc})") from exc


@dataclass(slots=True)
class _Steps:
    """The steps of ``modules.json``; they come in the order that the names here have."""

    transformer: Path
    pooling: Pooling | None = None
    projections: list[Path] = field(default_factory=list)
    normalizes: bool = False


def _steps(folder: Path) -> _Steps:
    steps = _Steps(folder)
    if not (folder / MODULES).is_file():
        return steps
    modules = _read(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelLoadFailed(f"{MODULES} holds no list of modules")
    for module in modules:
        _add_step(steps, str(module.get("type")), _within(folder, str(module.get("path", ""))))
    if steps.pooling is None and any(_kind(str(module.get("type"))) != "Transformer" for module in modules):
        raise ModelLoadFailed(f"{MODULES} has no Pooling")
    return steps


def _add_step(steps: _Steps, name: str, path: Path) -> None:
    kind = _kind(name)
    if steps.normalizes:
        raise ModelLoadFailed(f"{MODULES} has {kind} behind Normalize, which must be the last")
    if kind == "Transformer" and steps.pooling is None:
        steps.transformer = path
    elif kind == "Pooling" and steps.pooling is None:
        steps.pooling = _pooling(read_json(path / "config.json"))
    elif kind == "Dense" and steps.pooling is not None:
        steps.projections.append(path)
    elif kind == "Normalize" and steps.pooling is not None:
        steps.normalizes = True
    elif kind != "Dropout":  # which does nothing but in training
        raise ModelLoadFailed(
            f"{MODULES} has {name} in place {path.name!r}; known are Transformer, Pooling, Dense and Normalize, in this order"
        )


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _within(folder: Path, path: str) -> Path:
    inner = (folder / path).resolve()
    if not inner.is_relative_to(folder.resolve()):
        raise ModelLoadFailed(f"{MODULES} leads out of the folder: {path!r}")
    return inner


def _pooling(config: dict[str, Any]) -> Pooling:
    # The prompt's length is not known once it stands before the text, so it cannot be left out of the mean.
    if config.get("include_prompt") is False:
        raise ModelLoadFailed(
            "its pooling leaves the prompt's tokens out (include_prompt), which is not known here"
        )
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [
            _POOLING_NAMES.get(key.removeprefix(_POOLING_FLAG), key)
            for key, is_on in config.items()
            if key.startswith(_POOLING_FLAG) and is_on
        ]
    return as_pooling(modes if isinstance(modes, str) else "+".join(map(str, modes)))


def _added_token(tokenizer: dict[str, Any], kind: str) -> str | None:
    if tokenizer.get(f"add_{kind}_token") is not True:
        return None
    token = tokenizer.get(f"{kind}_token")
    return token.get("content") if isinstance(token, dict) else token


def _prompts(settings: dict[str, Any]) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ModelLoadFailed(f"prompts in {_SETTINGS} is no object")
    return {name: text for name, text in prompts.items() if isinstance(text, str)}


def _default_prompt(settings: dict[str, Any], prompts: Mapping[str, str]) -> str | None:
    name = settings.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise ModelLoadFailed(f"default_prompt_name in {_SETTINGS} is {name!r}, which is none of its prompts")
    return name


def _activation(config: dict[str, Any], settings: dict[str, Any]) -> str | None:
    nested = config.get("sentence_transformers")
    for name in (
        settings.get("activation_fn"),
        nested.get("activation_fn") if isinstance(nested, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    ):
        if isinstance(name, str):
            return name
    return None
