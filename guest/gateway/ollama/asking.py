"""A question as a call of the host, of a model that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.fitting import fit
from mlxbridge.guest.gateway.ollama.fields import refused
from mlxbridge.guest.gateway.ollama.models import Found, context_length
from mlxbridge.guest.gateway.ollama.requests import CONTEXT_NAMES, Question
from mlxbridge.types import GenerateOptions, Message

_TEMPLATE = ("tools", "reasoning", "chat_template_kwargs")
"""Options that have a part in what a chat is as text."""


class Asked(NamedTuple):
    """What the host is asked.

    Attributes:
        ask: the call.
        context: tokens of the prompt, where the answer is to tell them; else None.
        eos: the token that ends a turn, if there is one.
    """

    ask: Ask
    context: Sequence[int] | None = None
    eos: int | None = None


async def prepare(exchange: Exchange, question: Question, found: Found) -> Asked:
    """The call for a question.

    Raises:
        Problem: it goes on with tokens of an earlier answer, and the model would think first: that is told apart in
            chats alone.
    """
    options = cast(GenerateOptions, {**question.options, "model": found.name})
    most = context_length(found.info)
    if question.prompt is not None:
        return Asked(Ask(question.prompt, await fit(exchange, options, most, question.prompt)))
    options["messages"] = _readable(options["messages"] or (), found)
    options |= _thinking(question, found)
    if question.tells_context and not options.get("reasoning"):
        return await _continue(exchange, question, found, options)
    if question.context:
        raise refused("context", "goes with think=false alone, as the model thinks")
    return Asked(Ask(None, await fit(exchange, options, most)))


async def _continue(exchange: Exchange, question: Question, found: Found, options: GenerateOptions) -> Asked:
    """The call for a chat that stands behind tokens of an earlier one, or whose tokens are told."""
    most = context_length(found.info)
    tokenizer: Any = found.info.details.get("tokenizer") or {}
    eos = tokenizer.get("eos_token_id")
    tokens = await exchange.run(
        exchange.client.tokenize(options["messages"] or (), model=found.name, **_template(options))
    )
    if not question.context:
        return Asked(Ask(None, await fit(exchange, options, most, tokens)), tokens, eos)
    exchange.names = CONTEXT_NAMES
    is_begun = tokens[:1] == [tokenizer.get("bos_token_id")]
    tokens = [*question.context, *tokens[is_begun:]]
    left = {name: value for name, value in options.items() if name not in ("messages", *_TEMPLATE)}
    fitting = await fit(exchange, cast(GenerateOptions, left), most, tokens)
    return Asked(Ask(tokens, fitting), tokens, eos)


def _template(options: GenerateOptions) -> Any:
    return {name: value for name, value in options.items() if name in _TEMPLATE}


def _thinking(question: Question, found: Found) -> GenerateOptions:
    """The host's options for ``think``: a model that can think does so, unless it is told not to."""
    think, choices = question.think, found.info.details.get("reasoning_choices") or ()
    if isinstance(think, str):
        return {"reasoning": True, "chat_template_kwargs": {"reasoning_effort": think}}
    if think is None:
        return {"reasoning": True} if True in choices else {}
    return {"reasoning": think} if think or choices else {}


def _readable(messages: Sequence[Message], found: Found) -> Sequence[Message]:
    """The chat without what the model thought before, if its template reads none of that again: clients send it back
    as it came.
    """
    if found.info.details.get("keeps_reasoning"):
        return messages
    return [
        cast(Message, {name: value for name, value in message.items() if name != "reasoning"})
        for message in messages
    ]
