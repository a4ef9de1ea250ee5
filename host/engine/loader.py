"""From a model folder to a model that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from transformers.utils import logging as transformers_logging

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.checkpoint import damaged_weights, describe_misfit, missing_parts
from mlxbridge.host.engine.model_config import context_length, text_config
from mlxbridge.host.engine.text.template import check_template


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model with its weights in memory.

    Attributes:
        name: what users call it.
        model: the mlx_lm model (``mlx.nn.Module``), evaluated.
        tokenizer: mlx_lm's ``TokenizerWrapper``.
        config: ``config.json`` with what mlx_lm changed in it.
        eos_ids: token ids that end an answer.
        context_length: tokens of prompt and answer together, None if the config does not say.
        max_context: the same, where it was asked to be less than the model's own.
        vocabulary_size: rows of the embedding; every token id is below it.
        longest_token: characters of the longest name of a token, which no token's text is longer than.
    """

    name: str
    model: Any
    tokenizer: Any
    config: dict[str, Any] = field(repr=False)
    eos_ids: frozenset[int]
    context_length: int | None
    vocabulary_size: int
    longest_token: int
    max_context: int | None = None


def load(
    folder: Path, name: str, *, max_context: int | None = None, chat_template: str | None = None
) -> LoadedModel:
    """Load a model folder in MLX (or plain safetensors) format; no code from the folder is ever run.

    Args:
        folder: holds ``config.json``, ``model*.safetensors`` and a tokenizer.
        name: what users call the model.
        max_context: tokens of prompt and answer together, where that is to be less than the model's own.
        chat_template: Jinja source in place of the folder's.

    Raises:
        ModelLoadFailed: files are missing or damaged, mlx_lm cannot build this architecture, the model's context is
            shorter than ``max_context``, or ``chat_template`` is no template.
    """
    if missing := missing_parts(folder):
        raise ModelLoadFailed(f"cannot load {name}: {folder} lacks {', '.join(missing)}")
    if chat_template is not None:
        try:
            check_template(chat_template)
        except ValueError as exc:
            raise ModelLoadFailed(f"cannot load {name}: its chat_template is no template, {exc}") from exc
    # It tells of prompts over the model's limit, which are refused by name, or cut to a window, as errors to come.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        # Without the explicit False, transformers would ask on stdin whether to run the folder's code.
        template = {} if chat_template is None else {"chat_template": chat_template}
        parts: Any = mlx_lm.load(
            str(folder), tokenizer_config={"trust_remote_code": False, **template}, return_config=True
        )
        model, tokenizer, config = parts
        mx.eval(model.parameters())
    except Exception as exc:
        raise ModelLoadFailed(f"cannot load {name} from {folder}: {_reason(exc, folder)}") from exc
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        config=config,
        eos_ids=frozenset(tokenizer.eos_token_ids),
        context_length=_shorter(name, context_length(config), max_context),
        vocabulary_size=_vocabulary_size(config, tokenizer),
        longest_token=max(map(len, tokenizer.get_vocab()), default=1),
        max_context=max_context,
    )


def _shorter(name: str, own: int | None, wanted: int | None) -> int | None:
    if own is not None and wanted is not None and wanted > own:
        raise ModelLoadFailed(
            f"max_context of {name} is {wanted} tokens, but the model's own context is {own}"
        )
    return own if wanted is None else wanted


def _vocabulary_size(config: dict[str, Any], tokenizer: Any) -> int:
    size = text_config(config).get("vocab_size")
    return size if isinstance(size, int) else len(tokenizer)


def _reason(exc: Exception, folder: Path) -> str:
    text = str(exc).strip() or type(exc).__name__
    if damaged := damaged_weights(folder):  # MLX reads late, and does not say what
        return f"{', '.join(damaged)} is damaged or cut off ({text}). Download it again."
    if "not supported" in text and "odel type" in text:
        return f"{text} Update mlx-lm, or choose another model."
    if "custom module" in text or "trust_remote_code" in text:
        return "it needs code from its own folder, which mlxbridge never runs. Choose one that mlx-lm has built in."
    if "parameters" in text and isinstance(exc, ValueError):
        return f"its weights do not fit its config.json ({describe_misfit(exc)}). Download it again, or run mlx_lm.convert on it."
    return f"{type(exc).__name__}: {text}"
