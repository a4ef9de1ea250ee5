"""What the model thinks, as OpenAI has it: never in the text, and read again only where the model can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.model_facts import ModelFacts, find_facts
from mlxbridge.types import GenerateOptions

_SWITCHES = ("enable_thinking", "thinking")
"""As chat templates call it."""


async def fit_reasoning(exchange: Exchange, options: GenerateOptions) -> GenerateOptions:
    """The options of a chat as its model can be asked.

    Raises:
        Problem: the caller may not ask so.
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    exchange.check_options(options)
    facts = await find_facts(exchange, options.get("model"))
    return options if facts is None else _fit(options, facts)


def _fit(options: GenerateOptions, facts: ModelFacts) -> GenerateOptions:
    made: dict[str, Any] = {**options, **_told_apart(options, facts)}
    if not facts.keeps_reasoning:
        made["messages"] = [_without_reasoning(message) for message in options.get("messages") or ()]
    return cast(GenerateOptions, made)


def _told_apart(options: GenerateOptions, facts: ModelFacts) -> dict[str, Any]:
    """What has the reasoning told apart, of a model that thinks unless it is told not to.

    It thinks no more for that; but with a ``response_format`` it would, where it would else begin with the answer.
    """
    kwargs = options.get("chat_template_kwargs")
    switches = [name for name in _SWITCHES if isinstance(kwargs, Mapping) and name in kwargs]
    says = ("reasoning", "max_reasoning_tokens", "response_format")
    if True not in facts.reasoning_choices or any(options.get(name) is not None for name in says):
        return {}
    if not switches:
        return {"reasoning": True}
    if len(switches) > 1 or not isinstance(kwargs, Mapping) or not isinstance(kwargs[switches[0]], bool):
        return {}
    rest = {name: value for name, value in kwargs.items() if name not in switches}
    return {"reasoning": kwargs[switches[0]], "chat_template_kwargs": rest}


def _without_reasoning(message: Any) -> Any:
    if not isinstance(message, Mapping) or "reasoning" not in message:
        return message
    return {name: value for name, value in message.items() if name != "reasoning"}
