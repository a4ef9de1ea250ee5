"""The host's options as JSON Schemas, by their names, for all APIs that take them."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.guest.gateway.schema import (
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
    typed,
    whole,
)

TOKENS = list_of(whole(0, 2**32 - 1))
_SEED = whole(-(2**63), 2**64 - 1)
_CONTEXT = whole(1, 4096)
_KEEP_ALIVE = any_of(number(), TEXT)
_TIMEOUT = number()
_RETRY = whole(0)

NAMED_TOOL = body({"name": TEXT}, ["name"])
_FUNCTION = body({"name": TEXT, "description": TEXT, "parameters": OBJECT, "strict": FLAG}, ["name"])
TOOL = typed("function", {"function": _FUNCTION}, ["function"])
CALLED: Mapping[str, Schema] = {"name": TEXT, "arguments": any_of(TEXT, OBJECT)}
"""The function of a call that a model made, as a message has it."""
TEXT_PART: Mapping[str, Schema] = {"text": TEXT}
"""A part of what a message says, besides its type, which is "text"."""
RESPONSE_FORMATS: tuple[Schema, ...] = (
    typed("json_object"),
    typed("regex", {"pattern": TEXT}, ["pattern"]),
    typed("grammar", {"grammar": TEXT}, ["grammar"]),
    typed("choice", {"choices": list_of(TEXT, 1)}, ["choices"]),
)
"""Those that look the same in all APIs: a schema's object does not."""

GENERATE: Mapping[str, Schema] = {
    "model": MODEL,
    "max_tokens": whole(1),
    "min_tokens": whole(0, 2**31 - 1),
    "temperature": number(0),
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "top_k": whole(0),
    "min_p": number(0, 1),
    "xtc_probability": number(0, 1),
    "xtc_threshold": number(0, 0.5),
    "seed": _SEED,
    "logit_bias": {
        "type": "object",
        "additionalProperties": number(-10_000, 10_000),
        "propertyNames": {"pattern": "^[0-9]+$"},
    },
    "repetition_penalty": number(0.01, 100),
    "repetition_context_size": _CONTEXT,
    "presence_penalty": number(-10, 10),
    "presence_context_size": _CONTEXT,
    "frequency_penalty": number(-10, 10),
    "frequency_context_size": _CONTEXT,
    "stop": any_of({**TEXT, "minLength": 1}, list_of({**TEXT, "minLength": 1}, most=64)),
    "stop_token_ids": list_of(whole(0, 2**32 - 1), most=64),
    "ignore_eos": FLAG,
    "logprobs": whole(0, 20),
    "tools": list_of(TOOL),
    "tool_choice": any_of(choice("auto", "none", "required"), NAMED_TOOL),
    "parallel_tool_calls": FLAG,
    "response_format": any_of(
        *RESPONSE_FORMATS,
        typed("json_schema", {"schema": OBJECT}, ["schema"]),
    ),
    "reasoning": FLAG,
    "max_reasoning_tokens": whole(1),
    "chat_template_kwargs": OBJECT,
    "speculation": choice("draft", "ngram", "off"),
    "max_draft_tokens": whole(1, 15),
    "keep_alive": _KEEP_ALIVE,
    "priority": choice("high", "normal", "low"),
    "timeout": _TIMEOUT,
    "retry": _RETRY,
}
"""Of ``generate``, without its prompts; mlxbridge/types/options.py tells what they do."""

EMBED: Mapping[str, Schema] = {
    "model": MODEL,
    "prompt": TEXT,
    "prompt_name": TEXT,
    "normalize": FLAG,
    "dimensions": whole(1),
    "truncate": FLAG,
    "keep_alive": _KEEP_ALIVE,
    "timeout": _TIMEOUT,
    "retry": _RETRY,
}
"""Of ``embed``, without ``dtype``."""

RERANK: Mapping[str, Schema] = {
    "model": MODEL,
    "top_n": whole(1),
    "activation": choice("sigmoid", "none"),
    "truncate": FLAG,
    "keep_alive": _KEEP_ALIVE,
    "timeout": _TIMEOUT,
    "retry": _RETRY,
}

TOKENIZE: Mapping[str, Schema] = {
    "model": MODEL,
    "add_special_tokens": FLAG,
    "add_generation_prompt": FLAG,
    "tools": GENERATE["tools"],
    "tool_choice": GENERATE["tool_choice"],
    "reasoning": FLAG,
    "chat_template_kwargs": OBJECT,
    "keep_alive": _KEEP_ALIVE,
    "timeout": _TIMEOUT,
}
