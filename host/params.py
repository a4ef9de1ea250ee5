"""Params of a CALL as they are on the wire, checked: what cannot be honoured is refused by name (SPEC.md §10)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mlxbridge.errors import InvalidArgument, UsageError
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest, check_embed, check_rerank
from mlxbridge.host.engine.checks import check_request
from mlxbridge.host.engine.grammar.response_format import Source, read_response_format
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.refusal import invalid, shown
from mlxbridge.host.keep_alive import parse_keep_alive

_PLAIN = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "xtc_probability",
    "xtc_threshold",
    "repetition_penalty",
    "repetition_context_size",
    "presence_penalty",
    "presence_context_size",
    "frequency_penalty",
    "frequency_context_size",
    "ignore_eos",
    "min_tokens",
    "logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_reasoning_tokens",
    "chat_template_kwargs",
    "speculation",
    "max_draft_tokens",
    "priority",
)
"""Params that are on the wire as they are in a request."""

GENERATE_PARAMS = frozenset(
    {
        "model",
        "keep_alive",
        "prompt",
        "messages",
        "stop",
        "stop_token_ids",
        "logit_bias",
        "response_format",
        *_PLAIN,
    }
)
MANY_PARAMS = GENERATE_PARAMS - {"prompt", "messages"} | {"requests"}
_EMBED = ("prompt", "prompt_name", "normalize", "dimensions", "dtype", "truncate")
EMBED_PARAMS = frozenset({"model", "keep_alive", "inputs", *_EMBED})
_RERANK = ("query", "documents", "activation", "top_n", "truncate")
RERANK_PARAMS = frozenset({"model", "keep_alive", *_RERANK})


_MOST_NAME_CHARS = 100
_MOST_PARTS = 10_000
_LARGEST_BYTES = 4 * 1024 * 1024
_PART_BYTES = 64  # what Python takes for a value beside its text


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """The known name that is most like a wrong one; of a long one its beginning counts, since comparing takes its time."""
    near = get_close_matches(str(name)[:_MOST_NAME_CHARS], known, n=1)
    return near[0] if near else None


def estimate_bytes(value: Any) -> int:
    """About how much memory a decoded value takes; one of very many parts counts as the largest there can be."""
    total, pending = 0, [value]
    for _ in range(_MOST_PARTS):
        if not pending:
            return total
        part = pending.pop()
        total += _PART_BYTES
        if isinstance(part, str | bytes):
            total += len(part)
        elif isinstance(part, Mapping):
            pending += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            pending += part
    return total + _LARGEST_BYTES + _PART_BYTES * len(pending)


def check_names(method: str, params: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse params that the method does not have.

    Raises:
        InvalidArgument: with the nearest right name.
    """
    for name in params:
        if name not in known:
            near = nearest(name, known)
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            hint = f"did you mean {near!r}?" if near else takes
            field = str(name)[:100]
            raise InvalidArgument(f"{method} has no parameter {field!r}; {hint}", details={"field": field})


def parse_model(params: Mapping[str, Any]) -> str | None:
    """The ``model`` of a call, None if it names none."""
    model = params.get("model")
    if model is None or isinstance(model, str):
        return model
    raise invalid("model", f"must be a name, not {shown(model)}")


def check_keep_alive(params: Mapping[str, Any]) -> None:
    """Refuse a ``keep_alive`` that is none; what it says is for ``Model.submit``.

    Raises:
        InvalidArgument
    """
    if params.get("keep_alive") is not None:
        try:
            parse_keep_alive(params["keep_alive"])
        except UsageError as error:
            raise InvalidArgument(error.message, details=error.details) from error


def parse_generate(params: Mapping[str, Any]) -> GenerateRequest:
    """The request in a ``generate`` call.

    Raises:
        InvalidArgument: a parameter is unknown, of the wrong type or out of range; ``details["field"]`` names it.
        Unsupported: ``response_format`` asks for more than an answer can be held to.
    """
    check_names("generate", params, GENERATE_PARAMS)
    check_keep_alive(params)
    request = GenerateRequest(
        prompt=_prompt(params.get("prompt")),
        messages=_messages(params.get("messages")),
        stop=_stops(params.get("stop")),
        stop_token_ids=_stop_token_ids(params.get("stop_token_ids")),
        logit_bias=_logit_bias(params.get("logit_bias")),
        response_format=_response_format(params.get("response_format")),
        **{name: params[name] for name in _PLAIN if params.get(name) is not None},
    )
    check_request(request)
    return request


def parse_many(params: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """What the requests of a ``generate_many`` call have in common, checked; and the requests, unchecked.

    Raises:
        InvalidArgument: see ``parse_generate``; or there is no list of requests.
    """
    check_names("generate_many", params, MANY_PARAMS)
    requests = params.get("requests")
    if not isinstance(requests, list):
        raise invalid("requests", f"must be a list of maps, not {shown(requests)}")
    given = {name: value for name, value in params.items() if name != "requests" and value is not None}
    common = {"priority": "low", **given}
    parse_generate({**common, "messages": []})
    return common, requests


def parse_one_of_many(common: Mapping[str, Any], request: Any, index: int) -> GenerateRequest:
    """One request of a ``generate_many`` call: its own params before the common ones, and its own seed.

    Raises:
        InvalidArgument: see ``parse_generate``; or a param is one of the whole call.
    """
    if not isinstance(request, Mapping):
        raise invalid("requests", f"must have maps, not {shown(request)}")
    for name in ("model", "keep_alive", "priority"):
        if name in request:
            raise invalid(name, "is for all requests of a call, not for one of them")
    params = {**common, **request}
    if request.get("seed") is None and "seed" in common:
        params["seed"] = (common["seed"] + index) % 2**64
    return parse_generate(params)


def parse_embed(params: Mapping[str, Any]) -> EmbedRequest:
    """The request in an ``embed`` call.

    Raises:
        InvalidArgument: a parameter is unknown, of the wrong type or out of range; ``details["field"]`` names it.
    """
    check_names("embed", params, EMBED_PARAMS)
    check_keep_alive(params)
    inputs = params.get("inputs")
    if isinstance(inputs, list):
        inputs = [
            packed_ids(f"inputs[{place}]", item) if isinstance(item, bytes) else item
            for place, item in enumerate(inputs)
        ]
    request = EmbedRequest(
        inputs=inputs,  # type: ignore[arg-type]  # checked below
        **{name: params[name] for name in _EMBED if params.get(name) is not None},
    )
    check_embed(request)
    return request


def parse_rerank(params: Mapping[str, Any]) -> RerankRequest:
    """The request in a ``rerank`` call; errors as of ``parse_embed``."""
    check_names("rerank", params, RERANK_PARAMS)
    check_keep_alive(params)
    given = {name: params[name] for name in _RERANK if params.get(name) is not None}
    request = RerankRequest(**{"query": None, "documents": None, **given})
    check_rerank(request)
    return request


def _prompt(value: Any) -> str | list[int] | None:
    if value is None or isinstance(value, str):
        return value
    return packed_ids("prompt", value).tolist()


def packed_ids(field: str, value: Any) -> array[int]:
    """Token ids in as much memory as ``estimate_bytes`` counts for them; a list takes nine times that."""
    if not isinstance(value, bytes) or len(value) % 4:
        raise invalid(field, "must be text, or token ids as little-endian 32-bit numbers")
    ids = array("I", value)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids


def _messages(value: Any) -> list[Mapping[str, Any]] | None:
    if value is None or isinstance(value, list):
        return value  # each one is checked against the model's template, by the engine
    raise invalid("messages", f"must be a list of messages, not {shown(value)}")


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(value)
    raise invalid("stop", f"must be a text or a list of texts, not {shown(value)}")


def _stop_token_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(value)  # of numbers, as ``check_request`` makes sure
    raise invalid("stop_token_ids", f"must be a list of token ids, not {shown(value)}")


def _response_format(value: Any) -> Source | None:
    return None if value is None else read_response_format(value)


def _logit_bias(value: Any) -> dict[int, float]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise invalid("logit_bias", f"must be a list of pairs of token id and number, not {shown(value)}")
    bias: dict[int, float] = {}
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise invalid("logit_bias", f"must have pairs of token id and number, not {shown(pair)}")
        token, number = pair
        if type(token) is not int:  # 1.0 and true would be taken for 1
            raise invalid("logit_bias", f"must have token ids, not {shown(token)}")
        if token in bias:
            raise invalid("logit_bias", f"has token {token} twice")
        bias[token] = number
    return bias
