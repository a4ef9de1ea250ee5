"""What OpenAI's paths take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.guest.gateway.openai.responses.schemas import (
    COUNT_REQUEST,
    INPUT_TOKENS,
    RESPONSE,
    RESPONSE_REQUEST,
)
from mlxbridge.guest.gateway.operation import JSON, SSE, Operation, in_path, post
from mlxbridge.guest.gateway.option_schemas import (
    CALLED,
    EMBED,
    GENERATE,
    NAMED_TOOL,
    RERANK,
    RESPONSE_FORMATS,
    TEXT_PART,
    TOKENIZE,
    TOKENS,
)
from mlxbridge.guest.gateway.schema import (
    ANY,
    FLAG,
    MODEL,
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

_INT = whole(0)
_OR_NULL = any_of(TEXT, {"type": "null"})

ERROR: Schema = told(
    {
        "error": told(
            {
                "message": TEXT,
                "type": choice("invalid_request_error", "rate_limit_error", "server_error"),
                "param": _OR_NULL,
                "code": TEXT,
                "request_id": TEXT,
            }
        )
    }
)

_TEXT_PART = typed("text", {**TEXT_PART, "prompt_cache_breakpoint": ANY}, [*TEXT_PART])
_CALLED = body({**CALLED, "parsed_arguments": ANY}, [*CALLED])
_CALL = body({"id": TEXT, "type": choice("function"), "function": _CALLED}, ["function"])
_MESSAGE = body(
    {
        "role": TEXT,
        "content": any_of(TEXT, list_of(_TEXT_PART)),
        "name": TEXT,
        "annotations": choice([]),
        "parsed": ANY,
        "reasoning": TEXT,
        "reasoning_content": TEXT,
        "tool_call_id": TEXT,
        "tool_calls": list_of(_CALL),
    },
    ["role"],
)
_MESSAGES = list_of(_MESSAGE, 1)

_HARMLESS: Mapping[str, Schema] = dict.fromkeys(
    (
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "user",
    ),
    ANY,
)
_STREAMED: Mapping[str, Schema] = {
    "stream": FLAG,
    "stream_options": body({"include_usage": FLAG, "include_obfuscation": choice(False)}),
    "n": whole(1, 1024),
}
_TOOL_CHOICE = any_of(
    choice("auto", "none", "required"),
    typed("function", {"function": NAMED_TOOL}, ["function"]),
)
_NAMED_SCHEMA = body({"name": TEXT, "description": TEXT, "schema": OBJECT, "strict": FLAG}, ["schema"])
_JSON_SCHEMA = typed("json_schema", {"json_schema": _NAMED_SCHEMA}, ["json_schema"])

CHAT: Mapping[str, Schema] = {
    **GENERATE,
    **_HARMLESS,
    **_STREAMED,
    "logprobs": FLAG,
    "max_completion_tokens": whole(1),
    "messages": _MESSAGES,
    "modalities": choice(["text"]),
    "reasoning_effort": TEXT,
    "response_format": any_of(*RESPONSE_FORMATS, _JSON_SCHEMA, typed("text")),
    "service_tier": choice("auto", "default"),
    "tool_choice": _TOOL_CHOICE,
    "top_logprobs": whole(0, 20),
    "verbosity": choice("medium"),
}
"""Fields of ``/v1/chat/completions``."""

COMPLETION: Mapping[str, Schema] = {
    **GENERATE,
    **_STREAMED,
    "best_of": choice(1),
    "echo": FLAG,
    "prompt": any_of(TEXT, TOKENS, list_of(any_of(TEXT, TOKENS), 1, 1024)),
    "user": ANY,
}
EMBEDDING: Mapping[str, Schema] = {
    **EMBED,
    "encoding_format": choice("float", "base64"),
    "input": any_of(TEXT, TOKENS, list_of(any_of(TEXT, TOKENS))),
    "user": ANY,
}
_DOCUMENT = any_of(TEXT, {**told({"text": TEXT}), "additionalProperties": False})
RERANKING: Mapping[str, Schema] = {
    **RERANK,
    "query": TEXT,
    "documents": list_of(_DOCUMENT),
    "return_documents": FLAG,
}
TOKENIZING: Mapping[str, Schema] = {
    **TOKENIZE,
    "prompt": TEXT,
    "messages": _MESSAGES,
    "return_token_strs": choice(False),
    "continue_final_message": choice(False),
}
DETOKENIZING: Mapping[str, Schema] = {
    "model": MODEL,
    "tokens": TOKENS,
    "skip_special_tokens": FLAG,
    "keep_alive": TOKENIZE["keep_alive"],
    "timeout": TOKENIZE["timeout"],
}

_USAGE = told({"prompt_tokens": _INT, "completion_tokens": _INT, "total_tokens": _INT})
_INPUT_USAGE = told({"prompt_tokens": _INT, "total_tokens": _INT})
_REASON = choice("stop", "length", "tool_calls")
_CHAT_CHOICE = told(
    {
        "index": _INT,
        "finish_reason": _REASON,
        "message": told({"role": choice("assistant"), "content": _OR_NULL}),
    }
)
_TEXT_CHOICE = told({"index": _INT, "finish_reason": _REASON, "text": TEXT})
_HEAD: Mapping[str, Schema] = {"id": TEXT, "created": _INT, "model": TEXT}
_CHAT_TOLD = told(
    {**_HEAD, "object": choice("chat.completion"), "choices": list_of(_CHAT_CHOICE, 1), "usage": _USAGE}
)
_COMPLETION_TOLD = told(
    {**_HEAD, "object": choice("text_completion"), "choices": list_of(_TEXT_CHOICE, 1), "usage": _USAGE}
)
_VECTOR = told({"object": choice("embedding"), "index": _INT, "embedding": any_of(TEXT, list_of(number()))})
_VECTORS_TOLD = told(
    {"object": choice("list"), "model": TEXT, "data": list_of(_VECTOR), "usage": _INPUT_USAGE}
)
_RANKED = told({"index": _INT, "relevance_score": number()})
_RANKING_TOLD = told({"id": TEXT, "model": TEXT, "results": list_of(_RANKED), "usage": _INPUT_USAGE})
_TOKENS_TOLD = told(
    {
        "count": _INT,
        "max_model_len": any_of(_INT, {"type": "null"}),
        "tokens": TOKENS,
        "token_strs": {"type": "null"},
    }
)
_MODEL_TOLD = told({"id": TEXT, "object": choice("model"), "created": _INT, "owned_by": TEXT})


def _post(summary: str, taken: Schema, answer: Schema, *, streams: bool = False) -> Operation:
    return post(summary, "openai", taken, answer, streams_as=SSE if streams else None)


_RERANK = _post(
    "Documents by how well they answer a query", body(RERANKING, ["query", "documents"]), _RANKING_TOLD
)
_TOKENIZE = _post("The tokens of a text, or of a chat", body(TOKENIZING), _TOKENS_TOLD)
_DETOKENIZE = _post("The text of tokens", body(DETOKENIZING, ["tokens"]), told({"prompt": TEXT}))
_NO_RESPONSE = Operation(
    summary="404: no responses are kept",
    api="openai",
    parameters=[in_path("response_id", "of a response")],
    statuses=(404,),
    success=None,
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/v1/models"): Operation(
        summary="Models that the caller may use",
        api="openai",
        answer={JSON: told({"object": choice("list"), "data": list_of(_MODEL_TOLD)})},
    ),
    ("GET", "/v1/models/{model}"): Operation(
        summary="One of them",
        api="openai",
        parameters=[in_path("model", "a name or alias")],
        statuses=(404,),
        answer={JSON: _MODEL_TOLD},
    ),
    ("POST", "/v1/chat/completions"): _post(
        "The answers to a chat", body(CHAT, ["messages"]), _CHAT_TOLD, streams=True
    ),
    ("POST", "/v1/completions"): _post(
        "The answers to prompts", body(COMPLETION, ["prompt"]), _COMPLETION_TOLD, streams=True
    ),
    ("POST", "/v1/responses"): _post("The answer to items", RESPONSE_REQUEST, RESPONSE, streams=True),
    ("POST", "/v1/responses/input_tokens"): _post(
        "How many tokens the items are", COUNT_REQUEST, INPUT_TOKENS
    ),
    **{(method, "/v1/responses/{response_id}"): _NO_RESPONSE for method in ("GET", "POST", "DELETE")},
    ("POST", "/v1/embeddings"): _post("Texts as vectors", body(EMBEDDING, ["input"]), _VECTORS_TOLD),
    **{("POST", path): _RERANK for path in ("/v1/rerank", "/v2/rerank", "/rerank")},
    **{("POST", path): _TOKENIZE for path in ("/v1/tokenize", "/tokenize")},
    **{("POST", path): _DETOKENIZE for path in ("/v1/detokenize", "/detokenize")},
}
"""By method and path."""
