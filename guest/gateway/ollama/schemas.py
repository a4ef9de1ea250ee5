"""What Ollama's paths take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.guest.gateway.ollama.options import HARMLESS
from mlxbridge.guest.gateway.ollama.requests import LEVELS
from mlxbridge.guest.gateway.operation import JSON, NDJSON, Operation, in_path, post
from mlxbridge.guest.gateway.option_schemas import CALLED, GENERATE, TEXT_PART, TOOL
from mlxbridge.guest.gateway.schema import (
    ANY,
    FLAG,
    OBJECT,
    TEXT,
    Schema,
    any_of,
    body,
    choice,
    list_of,
    number,
    told,
    typed,
    whole,
)

ERROR: Schema = told({"error": TEXT})

_NOTHING = choice("", [], {})
"""For what is refused if it says anything."""
_OF_HOST = (
    *("temperature", "top_p", "min_p", "stop", "min_tokens", "xtc_probability", "xtc_threshold"),
    *("stop_token_ids", "ignore_eos", "max_reasoning_tokens", "speculation", "max_draft_tokens", "priority"),
    *("top_k", "presence_penalty", "frequency_penalty"),
)
_MACHINE: Mapping[str, Schema] = {**dict.fromkeys(sorted(HARMLESS), ANY), "num_ctx": whole(1)}
_ONE = choice(1)
SETTINGS: Mapping[str, Schema] = {
    **_MACHINE,
    "typical_p": _ONE,
    "tfs_z": _ONE,
    "mirostat": choice(0),
    "penalize_newline": choice(True),
    "vocab_only": choice(False),
    "embedding_only": choice(False),
}
"""Members of ``options`` for vectors, none of which changes them."""
OPTIONS: Mapping[str, Schema] = {
    **{name: GENERATE[name] for name in _OF_HOST},
    **SETTINGS,
    "num_predict": whole(-2),
    "repeat_last_n": whole(-1, 4096),
    "repeat_penalty": GENERATE["repetition_penalty"],
    "seed": GENERATE["seed"],
}
"""Members of ``options`` for answers."""

_NAMED: Mapping[str, Schema] = {"model": TEXT, "name": TEXT}
_KEEP_ALIVE = GENERATE["keep_alive"]
_COMMON: Mapping[str, Schema] = {
    **_NAMED,
    "format": any_of(choice("", "json"), OBJECT),
    "keep_alive": _KEEP_ALIVE,
    "logprobs": FLAG,
    "options": body(OPTIONS),
    "shift": choice(False),
    "stream": FLAG,
    "think": any_of(FLAG, choice(*LEVELS)),
    "top_logprobs": whole(0, 20),
    "truncate": choice(False),
}
GENERATION: Mapping[str, Schema] = {
    **_COMMON,
    "context": list_of(whole(0)),
    "prompt": TEXT,
    "raw": FLAG,
    "system": TEXT,
}
"""Fields of ``/api/generate``."""
_INDEX = whole(0)
_CALLED = body({**CALLED, "index": _INDEX}, ["name"])
_CALL = body({"id": TEXT, "type": choice("function"), "index": _INDEX, "function": _CALLED}, ["function"])
_MESSAGE = body(
    {
        "role": TEXT,
        "content": any_of(TEXT, list_of(typed("text", TEXT_PART, [*TEXT_PART]))),
        "thinking": TEXT,
        "tool_calls": list_of(_CALL),
        "tool_name": TEXT,
        "name": TEXT,
        "tool_call_id": TEXT,
        "images": choice([]),
    },
    ["role"],
)
CHAT: Mapping[str, Schema] = {**_COMMON, "messages": list_of(_MESSAGE), "tools": list_of(TOOL)}
EMBED: Mapping[str, Schema] = {
    **_NAMED,
    "dimensions": whole(0),
    "input": any_of(TEXT, list_of(TEXT)),
    "keep_alive": _KEEP_ALIVE,
    "options": body(SETTINGS),
    "truncate": FLAG,
}
EMBEDDINGS: Mapping[str, Schema] = {
    **_NAMED,
    "keep_alive": _KEEP_ALIVE,
    "options": body(SETTINGS),
    "prompt": TEXT,
}
SHOW: Mapping[str, Schema] = {
    **_NAMED,
    "verbose": FLAG,
    "system": _NOTHING,
    "template": _NOTHING,
    "options": _NOTHING,
}
PULL: Mapping[str, Schema] = {
    **_NAMED,
    "insecure": FLAG,
    "stream": FLAG,
    "username": _NOTHING,
    "password": _NOTHING,
}
DELETE: Mapping[str, Schema] = {**_NAMED, "force": FLAG}

_INT = whole(0)
_STAMP: Mapping[str, Schema] = {"model": TEXT, "created_at": TEXT}
_END: Mapping[str, Schema] = {"done": choice(True), "done_reason": TEXT}
_DETAILS = told({"format": TEXT, "family": TEXT, "parameter_size": TEXT, "quantization_level": TEXT})
_ENTRY: Mapping[str, Schema] = {
    "name": TEXT,
    "model": TEXT,
    "size": _INT,
    "digest": TEXT,
    "details": _DETAILS,
}
_LOADED = told({**_ENTRY, "size_vram": _INT, "expires_at": TEXT, "context_length": _INT})


def _named(fields: Mapping[str, Schema]) -> Schema:
    """A body that names a model, by either of two names."""
    return {**body(fields), "anyOf": [{"required": ["model"]}, {"required": ["name"]}]}


def _post(summary: str, fields: Mapping[str, Schema], answer: Schema, *, streams: bool = False) -> Operation:
    return post(summary, "ollama", _named(fields), answer, streams_as=NDJSON if streams else None)


def _get(summary: str, answer: Schema, *, asks_host: bool = True) -> Operation:
    return Operation(summary=summary, api="ollama", answer={JSON: answer}, asks_host=asks_host)


def _without(summary: str) -> Operation:
    return Operation(summary=summary, api="ollama", statuses=(501,), success=None)


_BLOB = Operation(
    summary="501: the host takes no files",
    api="ollama",
    parameters=[in_path("digest", "of a file")],
    statuses=(501,),
    success=None,
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/generate"): _post(
        "The answer to a prompt", GENERATION, told({**_STAMP, "response": TEXT, **_END}), streams=True
    ),
    ("POST", "/api/chat"): _post(
        "The answer to a chat",
        CHAT,
        told({**_STAMP, "message": told({"role": TEXT, "content": TEXT}), **_END}),
        streams=True,
    ),
    ("POST", "/api/embed"): _post(
        "Texts as vectors", EMBED, told({"model": TEXT, "embeddings": list_of(list_of(number()))})
    ),
    ("POST", "/api/embeddings"): _post(
        "A text as a vector", EMBEDDINGS, told({"embedding": list_of(number())})
    ),
    ("GET", "/api/tags"): _get("Models", told({"models": list_of(told({**_ENTRY, "modified_at": TEXT}))})),
    ("GET", "/api/ps"): _get("Models that are loaded", told({"models": list_of(_LOADED)})),
    ("POST", "/api/show"): _post(
        "What a model's files say",
        SHOW,
        told({"details": _DETAILS, "model_info": OBJECT, "capabilities": list_of(TEXT)}),
    ),
    ("POST", "/api/pull"): _post(
        "Have the host download a model", PULL, told({"status": choice("success")}), streams=True
    ),
    ("DELETE", "/api/delete"): Operation(
        summary="Delete a model's files",
        api="ollama",
        body=_named(DELETE),
        statuses=(409,),
        answer={JSON: ANY},
    ),
    ("GET", "/api/version"): _get("Of the API", told({"version": TEXT}), asks_host=False),
    ("POST", "/api/create"): _without("501: the host makes no models"),
    ("POST", "/api/copy"): _without("501: the host's configuration names models"),
    ("POST", "/api/push"): _without("501: the host sends models nowhere"),
    ("POST", "/api/blobs/{digest}"): _BLOB,
    ("HEAD", "/api/blobs/{digest}"): _BLOB,
}
"""By method and path."""
