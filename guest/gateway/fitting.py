"""How long an answer may be where the model's context does not hold all that was asked for.

Anthropic's and Ollama's models go on as far as their context reaches; the host keeps to ``max_tokens`` or refuses it. Clients
that always ask for tens of thousands of tokens could use no smaller model otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.types import GenerateOptions, Prompt, TokenizeOptions

_TEMPLATE_BYTES = 1024
"""More than templates have of their own around a chat."""


async def fit(
    exchange: Exchange, options: GenerateOptions, most_tokens: int | None, prompt: Prompt | None = None
) -> GenerateOptions:
    """The options, with no more ``max_tokens`` than there is room for; the same ones if there is.

    A prompt that leaves no room is left to the host to refuse, with its numbers.

    Args:
        exchange: the request.
        options: of the call, with the chat if it is one; the caller may ask so.
        most_tokens: of prompt and answer together; None if that is not known, or has no limit.
        prompt: of what is no chat.

    Raises:
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    wanted = options.get("max_tokens")
    if most_tokens is None or type(wanted) is not int or wanted + _bound(options, prompt) <= most_tokens:
        return options
    room = most_tokens - await count_prompt(exchange, options, prompt)
    return {**options, "max_tokens": room} if 0 < room < wanted else options


async def count_prompt(
    exchange: Exchange, options: Mapping[str, Any] | GenerateOptions, prompt: Prompt | None = None
) -> int:
    """How many tokens the model reads before it answers; arguments as of ``fit``.

    Raises:
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    if prompt is not None and not isinstance(prompt, str):
        return len(prompt)
    known = TokenizeOptions.__annotations__ if prompt is None else ("model",)
    asked = cast(TokenizeOptions, {name: value for name, value in options.items() if name in known})
    text = (options["messages"] or ()) if prompt is None else prompt
    return await exchange.run(exchange.client.count_tokens(text, **asked))


def _bound(options: GenerateOptions, prompt: Prompt | None) -> int:
    """At least as many tokens as the model is to read: one is at least a byte, and JSON takes more of them than a chat template."""
    if prompt is None:
        return len(orjson.dumps([options["messages"], options.get("tools")])) + _TEMPLATE_BYTES
    return len(prompt.encode()) + 1 if isinstance(prompt, str) else len(prompt)
