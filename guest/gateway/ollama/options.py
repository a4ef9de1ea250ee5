"""Ollama's ``options``: how to choose tokens, and what there is to say of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.guest.gateway.ollama.fields import Fields, refused

HARMLESS = frozenset(
    {
        *("numa", "num_batch", "num_gpu", "main_gpu", "num_thread", "low_vram", "use_mmap", "use_mlock"),
        *("num_keep", "mirostat_tau", "mirostat_eta"),
    }
)
"""They change nothing of an answer, and are taken for nothing, as ``num_ctx`` is, which has to be a number: settings of the machine,
which are the host's; how much to keep of a prompt that is cut, where none is; and two of mirostat, which has to be off."""

_SAME = ("temperature", "top_p", "min_p", "stop")
_OF_THE_HOST = (
    *("min_tokens", "xtc_probability", "xtc_threshold", "stop_token_ids", "ignore_eos"),
    *("max_reasoning_tokens", "speculation", "max_draft_tokens", "priority"),
)
"""What Ollama has not, and can be said here by the host's names."""
_PENALTIES = {
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_OFF = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_LAST_TOKENS = 64  # what Ollama's penalties look at by themselves
_WHOLE_TEXT = 4096  # the most that a host's look at
_NOT_HERE = {
    "f16_kv": "the host's configuration says how keys and values are kept",
    "logits_all": "give logprobs and top_logprobs",
}
_ONLY: Mapping[str, tuple[Any, str]] = {
    "typical_p": (1, "the host has no typical sampling: leave it out, or give 1, which is off"),
    "tfs_z": (1, "the host has no tail-free sampling: leave it out, or give 1, which is off"),
    "mirostat": (0, "the host has no mirostat: leave it out, or give 0, which is off"),
    "penalize_newline": (True, "the penalties of the host are for every token: leave it out, or give true"),
    "vocab_only": (False, "the host loads whole models"),
    "embedding_only": (False, "ask /api/embed"),
}
NAMES: Mapping[str, str] = {
    "max_tokens": "options.num_predict",
    "repetition_penalty": "options.repeat_penalty",
    "repetition_context_size": "options.repeat_last_n",
    "presence_context_size": "options.repeat_last_n",
    "frequency_context_size": "options.repeat_last_n",
    **{
        name: f"options.{name}"
        for name in (*_SAME, "top_k", "seed", "presence_penalty", "frequency_penalty", *_OF_THE_HOST)
    },
}
"""Where the host's options are in a body, by the host's names."""


def read_sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """The ``options`` of ``/api/generate`` and ``/api/chat`` as the host's.

    Raises:
        Problem: one of them cannot be honoured.
    """
    fields = Fields(given, "options.")
    options = {name: fields.take(name) for name in (*_SAME, *_OF_THE_HOST)}
    options["top_k"] = fields.take_number("top_k")
    seed = fields.take_number("seed")
    options["seed"] = None if seed == -1 else seed  # Ollama's word for random
    most = fields.take_number("num_predict")
    options["max_tokens"] = None if most in (-1, -2) else most  # without end, and what the context holds
    options |= _penalties(fields)
    _finish(fields)
    return {name: value for name, value in options.items() if value is not None}


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be honoured of the ``options`` of ``/api/embed``.

    Raises:
        Problem: there is one that is for answers, or that cannot be honoured.
    """
    fields = Fields(given, "options.")
    for name in given:
        if f"options.{name}" in NAMES.values() and fields.take(name) is not None:
            raise refused(f"options.{name}", "is for answers; vectors have no use for it")
    _finish(fields)


def _penalties(fields: Fields) -> dict[str, Any]:
    options = {own: fields.take(name) for name, own in _PENALTIES.items()}
    last = fields.take_number("repeat_last_n")
    if last == 0:  # Ollama's word for off
        return dict(_OFF)
    size = _WHOLE_TEXT if last == -1 else last
    for name, penalty in list(options.items()):
        if penalty is not None or size is not None:
            options[name.replace("penalty", "context_size")] = _LAST_TOKENS if size is None else size
    return options


def _finish(fields: Fields) -> None:
    num_ctx = fields.take_number("num_ctx")
    if num_ctx is not None and num_ctx < 1:
        raise refused("options.num_ctx", f"must be a number of tokens from 1, not {num_ctx}")
    for name in HARMLESS:
        fields.take(name)
    fields.refuse(_NOT_HERE)
    fields.allow(_ONLY)
    fields.finish()
