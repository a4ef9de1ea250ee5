"""LoRA adapters: one model in memory, whose layers are changed between one forward pass and the next.

An adapter has layers of its own (mlx_lm's ``LoRALinear`` and its like), each around one of the model's, and is active while
these are in the model's place. To go from one adapter to another, or to none, is to put other objects there: no weight is
moved, and a pass that was launched before goes on with the arrays that it was launched with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import load_adapters

from mlxbridge.errors import InvalidArgument, ModelLoadFailed
from mlxbridge.host.engine.checkpoint import ADAPTER_WEIGHTS, is_whole

CONFIG = "adapter_config.json"
# What a layer of an adapter has of its own.
_TRAINED = ("lora_a", "lora_b", "m")
_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Adapter:
    """What was loaded.

    Attributes:
        layers: to be put into the model, as ``Module.update_modules`` takes them.
        replaced: the model's own in these places.
        digest: of the files; another adapter of the same name has another.
    """

    layers: Any
    replaced: Any
    digest: str


class Adapters:
    """Those that a model may be run with, and which one is active; each is loaded when it is first asked for, and stays.

    Attributes:
        num_bytes: what all of them take once they are loaded.
    """

    def __init__(self, name: str, model: Any, folders: Mapping[str, str]) -> None:
        """Take what there is; loads nothing.

        Args:
            name: the model's, for refusals.
            model: mlx_lm's.
            folders: by the adapters' names, as ``mlx_lm.lora`` writes them.
        """
        self.num_bytes = sum(_size(Path(folder) / ADAPTER_WEIGHTS) for folder in folders.values())
        self._name = name
        self._model = model
        self._folders = dict(folders)
        self._loaded: dict[str, _Adapter] = {}
        self._refused: dict[str, tuple[_Stamp, str]] = {}  # why, while its files are the same
        self._active: str | None = None

    @property
    def names(self) -> list[str]:
        """All of them, loaded or not."""
        return list(self._folders)

    def load(self, adapter: str) -> None:
        """Read an adapter, unless that has been done, or has failed with the same files.

        Raises:
            InvalidArgument: there is none of that name.
            ModelLoadFailed: its files are missing or damaged, or not for this model.
        """
        if adapter in self._loaded:
            return
        if (folder := self._folders.get(adapter)) is None:
            raise InvalidArgument(
                f"model: {self._name} has no adapter {adapter[:100]!r}; it has {', '.join(self._folders) or 'none'}",
                details={"field": "model"},
            )
        stamp = _stamp(Path(folder))
        known, why = self._refused.get(adapter, (None, ""))
        if known == stamp:
            raise ModelLoadFailed(why)
        self.activate(None)
        own = _leaves(self._model)
        try:
            _check(Path(folder))
            load_adapters(self._model, folder)
            now = dict(self._model.named_modules())
            layers = {path: now[path] for path in own if now[path] is not own[path]}
            _check_weights(Path(folder) / ADAPTER_WEIGHTS, layers)
            replaced = {path: own[path] for path in layers}
            for layer in layers.values():
                layer.eval()
            mx.eval([layer.parameters() for layer in layers.values()])
        except Exception as exc:
            self._model.update_modules(_tree(own))
            why = f"cannot load the adapter {adapter} of {self._name} from {folder}: {_reason(exc)}"
            self._refused[adapter] = stamp, why
            raise ModelLoadFailed(why) from exc
        self._model.update_modules(_tree(replaced))
        self._loaded[adapter] = _Adapter(_tree(layers), _tree(replaced), _digest(Path(folder)))

    def scope(self, adapter: str | None, scope: str) -> str:
        """Whose cached prefixes a call may use: what the model has read with one adapter is of no use with another."""
        return scope if adapter is None else f"{scope}\0{self._loaded[adapter].digest}"

    def activate(self, adapter: str | None) -> None:
        """Let the model's next passes be with that adapter, which has been loaded; or with none."""
        if adapter == self._active:
            return
        if self._active is not None:
            self._model.update_modules(self._loaded[self._active].replaced)
        if adapter is not None:
            self._model.update_modules(self._loaded[adapter].layers)
        self._active = adapter


def _check(folder: Path) -> None:
    """Refuse what mlx_lm would take for something else, or not tell clearly.

    Raises:
        ValueError: it is no folder of a LoRA or DoRA adapter.
    """
    if missing := [name for name in (CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]:
        is_peft = (folder / "adapter_model.safetensors").is_file()
        hint = "; it is PEFT's, and has to be converted" if is_peft else ", which mlx_lm.lora writes"
        raise ValueError(f"it lacks {' and '.join(missing)}{hint}")
    if not is_whole(folder / ADAPTER_WEIGHTS):  # MLX reads late, and does not say what
        raise ValueError(f"{ADAPTER_WEIGHTS} is damaged or cut off")
    kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise ValueError(
            f"its fine_tune_type is {kind!r}, but only lora and dora leave the model's own weights alone"
        )


def _stamp(folder: Path) -> _Stamp:
    """What changes when the files do; None for one that is not there."""
    stamp: list[tuple[int, int, int] | None] = []
    for name in (CONFIG, ADAPTER_WEIGHTS):
        try:
            status = (folder / name).stat()
        except OSError:
            stamp.append(None)
        else:
            stamp.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def _check_weights(file: Path, layers: Mapping[str, Any]) -> None:
    """Refuse files that lack weights of the layers: mlx_lm would leave these as training begins, some of them random.

    Raises:
        ValueError: with one that is missing.
    """
    there: Any = mx.load(str(file))
    wanted = (f"{path}.{name}" for path, layer in layers.items() for name in _TRAINED if name in layer)
    if missing := [name for name in wanted if name not in there]:
        raise ValueError(f"{ADAPTER_WEIGHTS} lacks {missing[0]}, one of {len(missing)} that are missing")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _digest(folder: Path) -> str:
    digest = blake2b(digest_size=16)
    for name in (CONFIG, ADAPTER_WEIGHTS):
        with open(folder / name, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _leaves(model: Any) -> dict[str, Any]:
    """The layers that have none within, by path."""
    return dict(tree_flatten(model.leaf_modules(), is_leaf=model.is_module))


def _tree(layers: Mapping[str, Any]) -> Any:
    return tree_unflatten(list(layers.items()))


def _reason(exc: Exception) -> str:
    if isinstance(exc, KeyError | AttributeError):
        return f"{CONFIG} lacks something: {exc}"
    first, *more = str(exc).strip().splitlines() or [type(exc).__name__]
    return f"{first} {more[0].strip()}" if more else first  # mlx_lm lists each weight that does not fit
