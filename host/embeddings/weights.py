"""Weights from safetensors files into modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.engine.checkpoint import WEIGHTS, damaged_weights, describe_misfit

Weights = dict[str, mx.array]

# What checkpoints hold beside a model's own weights: tables that can be computed, and heads that are not asked for.
_SPARE = ("embeddings.position_ids", "pooler.", "cls.", "lm_head.", "head.", "decoder.", "classifier.")
# Names of a LayerNorm's parts in checkpoints converted from TensorFlow.
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


def read_weights(folder: Path) -> Weights:
    """All weights of a folder, by their names there.

    Raises:
        ModelLoadFailed: a file is damaged.
    """
    if damaged := damaged_weights(
        folder
    ):  # what lacks bytes would fail late, unnamed: MLX reads when it computes
        raise ModelLoadFailed(f"{', '.join(damaged)} is damaged or cut off. Download it again.")
    found: Weights = {}
    for path in sorted(folder.glob(WEIGHTS)):
        try:
            found.update(_loaded(path))
        except RuntimeError as exc:
            raise ModelLoadFailed(f"{path.name} is damaged ({exc}). Download it again.") from exc
    return {_renamed(name): leaf for name, leaf in found.items()}


def within(weights: Weights, prefix: str) -> Weights:
    """What belongs to one part of a model, without its prefix; everything, where no name has the prefix."""
    inner = {name.removeprefix(prefix): leaf for name, leaf in weights.items() if name.startswith(prefix)}
    return inner or weights


def widened(weights: Weights) -> Weights:
    """The same with float32 in place of float16, for models whose activations leave float16's range."""
    return {
        name: leaf.astype(mx.float32) if leaf.dtype == mx.float16 else leaf for name, leaf in weights.items()
    }


def fill(module: nn.Module, weights: Weights, config: dict[str, Any], *, prefix: str = "") -> None:
    """Put weights into a module, by name, and into memory; quantized ones as ``config.json`` says.

    Args:
        module: what they are for.
        weights: by their names in it.
        config: ``config.json``.
        prefix: what names of the backbone's begin with.

    Raises:
        ModelLoadFailed: some are missing, of another shape, or unknown.
    """
    if quantization := config.get("quantization"):
        _quantize(module, weights, quantization)
    names = {name for name, _ in _leaves(module)}
    kept = [
        (name, leaf)
        for name, leaf in weights.items()
        if name in names or not name.removeprefix(prefix).startswith(_SPARE)
    ]
    try:
        module.load_weights(kept)
    except ValueError as exc:
        raise ModelLoadFailed(
            f"its weights do not fit its config.json ({describe_misfit(exc)}). Download it again."
        ) from exc
    module.eval()
    if mx.default_device().type == mx.DeviceType.cpu:
        _lay_out_by_columns(module)
    mx.eval(module.parameters())


def _lay_out_by_columns(module: nn.Module) -> None:
    """Keep dense layers' weights in memory as they are multiplied: MLX on a CPU takes less than half the time with them."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight = mx.contiguous(part.weight.T).T


def _quantize(module: nn.Module, weights: Weights, settings: dict[str, Any]) -> None:
    def settings_of(path: str, part: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(part, "to_quantized") or f"{path}.scales" not in weights:
            return False
        own = settings.get(path, settings.get(f"model.{path}"))  # mlx_lm's names are those of whole models
        return own if isinstance(own, dict) else True

    nn.quantize(
        module,
        group_size=settings["group_size"],
        bits=settings["bits"],
        mode=settings.get("mode", "affine"),
        class_predicate=settings_of,
    )


def _leaves(module: nn.Module) -> list[tuple[str, mx.array]]:
    leaves: Any = tree_flatten(module.parameters())
    return list(leaves)


def _loaded(path: Path) -> Weights:
    loaded: Any = mx.load(str(path))
    return dict(loaded)


def _renamed(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
