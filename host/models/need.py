"""How much memory a model needs, told from its files before it is loaded, and how much it gets.

If all configured models fit into the budget together, each has what it needs and, for its caches, an equal share of what is
left: none ever makes way. If they do not, or the files of some have not been looked at yet, as those of the hub's models that have not been
downloaded, each has an eighth of the budget for its caches, more if one call of some thousand tokens takes more, and
less if weights leave less. So a host with a single model gives it all there is. Where ``kv_bytes`` is configured, caches have that
and no more. Models of vectors have no caches, but what their largest batch takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed, ModelTooLarge
from mlxbridge.host.engine.checkpoint import ADAPTER_WEIGHTS, WEIGHTS
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.kind import Kind, kind_of

CACHE_SHARE = 8
"""What caches have is the budget divided by this, where not all models fit together."""

_LEAST_TOKENS = 4608
"""The one call that has to fit: 4,096 tokens, and room to grow."""

# Of all that caches have, cached prefixes take an eighth.
_PREFIXES = 8

# Of a model of vectors, at most; see ``embeddings.batching``.
_BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a model needs.

    Attributes:
        weight_bytes: of the model and those that go with it.
        cache_bytes: that its caches, or its batches, take at least.
        is_open: whether caches can well use more.
        kind: what the model is for.
    """

    weight_bytes: int
    cache_bytes: int
    is_open: bool
    kind: Kind = "generate"

    @property
    def least_bytes(self) -> int:
        """Less is of no use."""
        return self.weight_bytes + self.cache_bytes


def estimate_need(folders: Sequence[Path], limits: EngineLimits, adapters: Iterable[str] = ()) -> Need:
    """Look at a model's files; they are not read, but for their configs.

    Args:
        folders: of the model, and of those that are loaded with it.
        limits: as configured.
        adapters: folders of LoRA adapters.

    Raises:
        ModelLoadFailed: they cannot be looked at.
    """
    try:
        files = [file for folder in folders for file in folder.glob(WEIGHTS)]
        files += [file for folder in adapters for file in Path(folder).glob(ADAPTER_WEIGHTS)]
        weights = sum(file.stat().st_size for file in files)
        kind = kind_of(folders[0])
        work = sum(map(_call_bytes if kind == "generate" else _batch_bytes, folders))
    except OSError as error:
        raise ModelLoadFailed(f"{error.filename}: {error.strerror}") from error
    if kind != "generate":
        return Need(weight_bytes=weights, cache_bytes=work, is_open=False, kind=kind)
    prefixes = limits.prefix_cache_bytes
    if limits.kv_bytes is not None:
        prefixes = limits.kv_bytes // _PREFIXES if prefixes is None else prefixes
        return Need(weight_bytes=weights, cache_bytes=limits.kv_bytes + prefixes, is_open=False)
    calls = work or weights // CACHE_SHARE
    cache = calls * _PREFIXES // (_PREFIXES - 1) if prefixes is None else calls + prefixes
    return Need(weight_bytes=weights, cache_bytes=cache, is_open=True)


def share_of(name: str, need: Need, others: Iterable[Need | None], budget_bytes: int) -> int:
    """What a model gets of the budget, its weights included.

    Args:
        name: for refusals.
        need: its own.
        others: of all other models that are configured; None where that is not known yet.
        budget_bytes: for all of them.

    Raises:
        ModelTooLarge: it does not fit, even alone.
    """
    if need.least_bytes > budget_bytes:
        raise too_large(name, need, budget_bytes)
    if not need.is_open:
        return need.least_bytes
    known = [need]
    for other in others:
        if other is None:
            break
        known.append(other)
    else:
        left = budget_bytes - sum(each.least_bytes for each in known)
        if left >= 0:
            return need.least_bytes + left // sum(each.is_open for each in known)
    wanted = need.weight_bytes + max(need.cache_bytes, budget_bytes // CACHE_SHARE)
    return min(wanted, budget_bytes)


def too_large(name: str, need: Need, there_are: int, pinned: Sequence[str] = ()) -> ModelTooLarge:
    """The error for a model that does not fit, with both numbers.

    Args:
        name: the model's.
        need: its own.
        there_are: bytes for it.
        pinned: names of others that are never to make way for it.
    """
    is_generating = need.kind == "generate"
    work = "caches" if is_generating else "its largest batch"
    options = "--memory or --kv-memory" if is_generating else "--memory"
    besides = f", as others are pinned ({', '.join(pinned)})" if pinned else ""
    return ModelTooLarge(
        f"{name} needs {shown(need.least_bytes)} of memory (weights {shown(need.weight_bytes)}, {work} "
        f"{shown(need.cache_bytes)}), but there are {shown(there_are)} for it{besides}; a smaller or quantized model "
        f"fits, or change the host's {options}",
        details={"needed_bytes": need.least_bytes, "budget_bytes": there_are},
    )


def shown(num_bytes: int) -> str:
    """A size for a message."""
    return f"{num_bytes / 2**30:,.2f} GB" if num_bytes >= 1 << 30 else f"{num_bytes / 2**20:,.2f} MB"


def _call_bytes(folder: Path) -> int:
    """What the caches of one call take, by the usual names in ``config.json``; 0 if they are not there."""
    facts = _facts(folder)
    layers, heads = _number(facts, "num_hidden_layers"), _number(facts, "num_attention_heads")
    if not layers or not heads:
        return 0
    if latent := _number(facts, "kv_lora_rank"):
        numbers = latent + _number(facts, "qk_rope_head_dim")
    else:
        size = _number(facts, "head_dim") or _number(facts, "hidden_size") // heads
        numbers = 2 * size * (_number(facts, "num_key_value_heads") or heads)
    width = 4 if "float32" in (facts.get("torch_dtype"), facts.get("dtype")) else 2
    context = _number(facts, "max_position_embeddings") or _LEAST_TOKENS
    return layers * numbers * width * min(_LEAST_TOKENS, context + 256)


def _batch_bytes(folder: Path) -> int:
    """What is computed with for the largest batch: a layer's inputs, outputs and what is between, in float32."""
    facts = _facts(folder)
    return _BATCH_TOKENS * 4 * (4 * _number(facts, "hidden_size") + 2 * _number(facts, "intermediate_size"))


def _facts(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError:
        return {}  # whoever loads it says what is wrong
    if not isinstance(config, dict):
        return {}
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, dict) else config


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if type(value) is int and value > 0 else 0
