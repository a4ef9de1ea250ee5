"""How long an answer may be where the model's context does not hold all that was asked for.

Anthropic's models go on as far as their context reaches, and say so; the host keeps to ``max_tokens`` or refuses it. Clients
that always ask for tens of thousands of tokens could use no smaller model otherwise.
"""

from __future__ import annotations

import orjson

from mlxbridge.guest.gateway.anthropic.requests import MessageRequest
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.model_facts import ModelFacts


async def find_room(exchange: Exchange, request: MessageRequest, facts: ModelFacts | None) -> int | None:
    """How many tokens there is room for, if that is less than ``max_tokens``; else None.

    A prompt that leaves no room is left to the host to refuse, with its numbers.

    Raises:
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    most = request.given["max_tokens"]
    if facts is None or type(most) is not int or _most_prompt_tokens(request) + most <= facts.most_tokens:
        return None
    room = facts.most_tokens - await count_prompt(exchange, request, facts)
    return room if 0 < room < most else None


async def count_prompt(exchange: Exchange, request: MessageRequest, facts: ModelFacts | None) -> int:
    """How many tokens the model reads before it answers.

    Raises:
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    options = request.tokenize_options(facts)
    return await exchange.run(exchange.client.count_tokens(request.messages(facts), **options))


def _most_prompt_tokens(request: MessageRequest) -> int:
    """More tokens than the prompt has: one is at least a byte, and JSON takes more of them than a chat template."""
    return len(orjson.dumps([request.chat.messages, request.given.get("tools")]))
