"""Params of ``tokenize`` and ``detokenize`` as they are on the wire, checked (SPEC.md §10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.host.engine.refusal import invalid, shown
from mlxbridge.host.engine.token_request import (
    DetokenizeRequest,
    TokenizeRequest,
    check_detokenize,
    check_tokenize,
)
from mlxbridge.host.params import check_keep_alive, check_names, packed_ids, parse_generate

_SOURCE = ("prompt", "messages", "tools", "tool_choice", "reasoning", "chat_template_kwargs")
"""Of ``generate``: what its prompt's tokens depend on."""
_OWN = ("add_special_tokens", "add_generation_prompt", "count_only")
TOKENIZE_PARAMS = frozenset({"model", "keep_alive", *_SOURCE, *_OWN})
DETOKENIZE_PARAMS = frozenset({"model", "keep_alive", "token_ids", "skip_special_tokens"})


def parse_tokenize(params: Mapping[str, Any]) -> TokenizeRequest:
    """The request in a ``tokenize`` call.

    Raises:
        InvalidArgument: a parameter is unknown, of the wrong type or out of range; ``details["field"]`` names it.
    """
    check_names("tokenize", params, TOKENIZE_PARAMS)
    check_keep_alive(params)
    source = parse_generate({name: params[name] for name in _SOURCE if name in params})
    own = {name: params[name] for name in _OWN if params.get(name) is not None}
    request = TokenizeRequest(source=source, **own)
    check_tokenize(request)
    return request


def parse_detokenize(params: Mapping[str, Any]) -> DetokenizeRequest:
    """The request in a ``detokenize`` call; errors as of ``parse_tokenize``."""
    check_names("detokenize", params, DETOKENIZE_PARAMS)
    check_keep_alive(params)
    given = params.get("token_ids")
    if not isinstance(given, bytes):
        raise invalid("token_ids", f"must be little-endian 32-bit numbers, as bytes, not {shown(given)}")
    skip = params.get("skip_special_tokens")
    request = DetokenizeRequest(
        token_ids=packed_ids("token_ids", given), skip_special_tokens=False if skip is None else skip
    )
    check_detokenize(request)
    return request
