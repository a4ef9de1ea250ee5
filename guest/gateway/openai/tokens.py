"""``/tokenize`` and ``/detokenize``: a model's tokenizer alone, in vLLM's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from starlette.types import ASGIApp

from mlxbridge.compat.openai.nested import check_switch, read_message, read_tool
from mlxbridge.compat.refusal import check_members, refused
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.model_names import find_model
from mlxbridge.types import TokenizeOptions

_PROMPTS = frozenset({"prompt", "messages"})
_DETOKENIZE = frozenset({"model", "tokens", "skip_special_tokens", "keep_alive", "timeout"})
_ONLY_FALSE: Mapping[str, str] = {
    "return_token_strs": "the host tells no strings of tokens; detokenize has their text",
    "continue_final_message": "an answer is a turn of its own; give add_generation_prompt false",
}


async def tokenize(exchange: Exchange) -> ASGIApp:
    """``POST /tokenize``: token ids of a text, or of a chat."""
    body = await exchange.read_json()
    check_members(body, _PROMPTS | fields.TOKENIZE_HOST | _ONLY_FALSE.keys())
    for name, why in _ONLY_FALSE.items():
        if check_switch(name, body.get(name)):
            raise refused(name, why)
    prompt = _prompt(body)
    exchange.names = {"prompt": "prompt" if isinstance(prompt, str) else "messages"}
    options = cast(TokenizeOptions, {name: body[name] for name in body.keys() & fields.TOKENIZE_HOST})
    if isinstance(tools := body.get("tools"), list):
        options["tools"] = [read_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
    exchange.check_options(options)
    ids = await exchange.run(exchange.client.tokenize(prompt, **options))
    most = await exchange.run(_context_length(exchange, options.get("model")))
    return Json({"count": len(ids), "max_model_len": most, "tokens": ids, "token_strs": None})


async def detokenize(exchange: Exchange) -> ASGIApp:
    """``POST /detokenize``: the text of tokens."""
    body = await exchange.read_json()
    check_members(body, _DETOKENIZE)
    exchange.names = {"token_ids": "tokens"}
    options = {name: value for name, value in body.items() if name != "tokens" and value is not None}
    if not isinstance(body.get("tokens"), list):
        raise refused("tokens", "must be a list of token ids")
    check_switch("skip_special_tokens", body.get("skip_special_tokens"))
    exchange.check_options(options)
    text = await exchange.run(exchange.client.detokenize(body["tokens"], **options))
    return Json({"prompt": text})


def _prompt(body: Mapping[str, Any]) -> Any:
    """The text, or the messages of the chat."""
    prompt, messages = body.get("prompt"), body.get("messages")
    if (prompt is None) == (messages is None):
        raise refused("prompt", "or messages must be given, and not both")
    if prompt is not None and not isinstance(prompt, str):
        raise refused("prompt", "must be a text")
    if prompt is not None:
        return prompt
    if not isinstance(messages, list) or not messages:
        raise refused("messages", "must be a list of messages")
    return [read_message(message, place) for place, message in enumerate(messages)]


async def _context_length(exchange: Exchange, model: str | None) -> int | None:
    """What the model takes, prompt and answer together; None if there is no limit, or it is not known which model it is."""
    found = find_model(await exchange.client.list_models(), model)
    length = None if found is None else found.details.get("context_length")
    return length if isinstance(length, int) else None
