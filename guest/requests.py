"""Arguments of the clients' methods, as the params of a CALL (SPEC.md §10).

Only what cannot be sent is refused here; the host checks values, since it knows what the model can do.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlxbridge.errors import UsageError
from mlxbridge.types import Message, ModelInfo, Prompt, Status

MAX_TOKEN_ID = 0xFFFF_FFFF
MIN_SEED, MAX_SEED = -(1 << 63), (1 << 64) - 1


def generate_params(
    *,
    prompt: Prompt | None,
    messages: Sequence[Message] | None,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    seed: int | None,
    stop: str | Sequence[str] | None,
) -> dict[str, Any]:
    """Params of ``generate``: what was given, and nothing else.

    Raises:
        UsageError: both or neither of prompt and messages, or a prompt that is neither text nor token ids.
    """
    if (prompt is None) is (messages is None):
        raise UsageError("give either prompt (raw text or token ids) or messages (a chat)")
    if isinstance(seed, int) and not MIN_SEED <= seed <= MAX_SEED:
        raise UsageError(f"seed: must be a whole number of 64 bits, not {seed}")
    params: dict[str, Any] = {
        "model": model,
        "prompt": None if prompt is None else _encode_prompt(prompt),
        "messages": None if messages is None else _encode_messages(messages),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
        "stop": None if stop is None else _encode_stops(stop),
    }
    return {name: value for name, value in params.items() if value is not None}


def _encode_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    try:
        if isinstance(messages, str | bytes | Mapping):
            raise TypeError(f"not {type(messages).__name__}")
        return [dict(message) for message in messages]
    except (TypeError, ValueError) as error:
        raise UsageError(f"messages: must be a list of maps with role and content ({error})") from error


def _encode_stops(stop: str | Sequence[str]) -> list[str]:
    if isinstance(stop, str):
        return [stop]
    if isinstance(stop, bytes) or not isinstance(stop, Iterable):
        raise UsageError(f"stop: must be a text or several, not {type(stop).__name__}")
    return list(stop)


def _encode_prompt(prompt: Prompt) -> str | bytes:
    if isinstance(prompt, str):
        return prompt
    try:
        if isinstance(prompt, bytes | bytearray):
            raise TypeError("bytes are neither text nor token ids; decode them first")
        ids = array("I", prompt)
    except (TypeError, OverflowError, ValueError) as error:
        raise UsageError(f"prompt: token ids must be numbers from 0 to {MAX_TOKEN_ID} ({error})") from error
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tobytes()


def deadline_ms(timeout: float | None) -> int | None:
    """A timeout in seconds as a CALL's ``deadline_ms``.

    Raises:
        UsageError: it is not a positive number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or not 0 < timeout < 1e9:
        raise UsageError(f"timeout must be a number of seconds above 0, or None, not {timeout!r}")
    return max(1, round(timeout * 1000))


def read_models(result: Mapping[str, Any]) -> list[ModelInfo]:
    """The models in the RESULT of ``models`` and ``status``."""
    return [read_model(entry) for entry in result.get("models", []) if isinstance(entry, dict)]


def read_model(entry: Mapping[str, Any]) -> ModelInfo:
    """One model's map."""
    known = {"name", "state", "source"}
    return ModelInfo(
        name=str(entry.get("name", "")),
        state=str(entry.get("state", "")),
        source=str(entry.get("source", "")),
        details={key: value for key, value in entry.items() if key not in known},
    )


def read_status(result: Mapping[str, Any]) -> Status:
    """The RESULT of ``status``."""
    return Status(
        software=str(result.get("software", "")),
        uptime_seconds=result.get("uptime_ms", 0) / 1000,
        connections=int(result.get("connections", 0)),
        calls=int(result.get("calls", 0)),
        models=read_models(result),
    )
