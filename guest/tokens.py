"""``tokenize``, ``count_tokens`` and ``detokenize``: their arguments as params of a CALL, and their answers (SPEC.md §10)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.guest.call import read_number
from mlxbridge.guest.requests import check_names, encode_options, encode_token_ids, shown, wrong
from mlxbridge.types import KeepAlive, Message, TokenizeOptions

TOKENIZE_OPTIONS = frozenset(TokenizeOptions.__annotations__)


def tokenize_params(
    prompt: str | Sequence[Message], options: TokenizeOptions, *, count_only: bool = False
) -> dict[str, Any]:
    """Params of ``tokenize``: what was given, and nothing else.

    Raises:
        UsageError: a name that is none, or a prompt that is neither a text nor a chat.
    """
    check_names(options, TOKENIZE_OPTIONS, ("prompt",))
    params = encode_options(options)
    if isinstance(prompt, str):
        params["prompt"] = prompt
    elif isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
        params.update(encode_options({"messages": prompt}))
    else:
        raise wrong("prompt", f"must be a text, or the messages of a chat, not {shown(prompt)}")
    return {**params, "count_only": True} if count_only else params


def detokenize_params(
    token_ids: Iterable[int],
    model: str | None,
    skip_special_tokens: bool,
    keep_alive: KeepAlive | None,
) -> dict[str, Any]:
    """Params of ``detokenize``.

    Raises:
        UsageError: these are no token ids.
    """
    if isinstance(token_ids, str | bytes | Mapping) or not isinstance(token_ids, Iterable):
        raise wrong("token_ids", f"must be several numbers, not {shown(token_ids)}")
    params = {"token_ids": encode_token_ids("token_ids", token_ids), "model": model, "keep_alive": keep_alive}
    given = {name: value for name, value in params.items() if value is not None}
    return {**given, "skip_special_tokens": True} if skip_special_tokens else given


def read_token_ids(result: Mapping[str, Any]) -> list[int]:
    """The answer of ``tokenize``.

    Raises:
        RemoteProtocolError: it is none.
    """
    packed = result.get("token_ids")
    if not isinstance(packed, bytes) or len(packed) % 4:
        raise RemoteProtocolError("tokenize: the result has no token ids")
    ids = array("I", packed)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def read_count(result: Mapping[str, Any]) -> int:
    """The answer of ``tokenize`` with ``count_only``."""
    return int(read_number(result, "num_tokens"))


def read_text(result: Mapping[str, Any]) -> str:
    """The answer of ``detokenize``."""
    return str(result.get("text", ""))
