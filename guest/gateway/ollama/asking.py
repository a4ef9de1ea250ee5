"""A question as a call of the host, of a model that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import orjson

from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.ollama.fields import refused
from mlxbridge.guest.gateway.ollama.models import Found, context_length
from mlxbridge.guest.gateway.ollama.requests import CONTEXT_NAMES, Question
from mlxbridge.types import GenerateOptions, Message, Prompt

_TEMPLATE = ("tools", "reasoning", "chat_template_kwargs")
"""Options that have a part in what a chat is as text."""
_TEMPLATE_BYTES = 1024
"""More than templates have of their own around a chat."""


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
    if question.prompt is not None:
        return Asked(Ask(question.prompt, await _fit(exchange, found, options, question.prompt)))
    options["messages"] = _readable(options["messages"] or (), found)
    options |= _thinking(question, found)
    if question.tells_context and not options.get("reasoning"):
        return await _continue(exchange, question, found, options)
    if question.context:
        raise refused("context", "goes with think=false alone, as the model thinks")
    return Asked(Ask(None, await _fit(exchange, found, options)))


async def _continue(exchange: Exchange, question: Question, found: Found, options: GenerateOptions) -> Asked:
    """The call for a chat that stands behind tokens of an earlier one, or whose tokens are told."""
    tokenizer: Any = found.info.details.get("tokenizer") or {}
    eos = tokenizer.get("eos_token_id")
    tokens = await exchange.run(
        exchange.client.tokenize(options["messages"] or (), model=found.name, **_template(options))
    )
    if not question.context:
        return Asked(Ask(None, await _fit(exchange, found, options, tokens)), tokens, eos)
    exchange.names = CONTEXT_NAMES
    is_begun = tokens[:1] == [tokenizer.get("bos_token_id")]
    tokens = [*question.context, *tokens[is_begun:]]
    left = {name: value for name, value in options.items() if name not in ("messages", *_TEMPLATE)}
    fitting = await _fit(exchange, found, cast(GenerateOptions, left), tokens)
    return Asked(Ask(tokens, fitting), tokens, eos)


async def _fit(
    exchange: Exchange, found: Found, options: GenerateOptions, prompt: Prompt | None = None
) -> GenerateOptions:
    """The options, with no more ``max_tokens`` than the context has room for: Ollama's answers end there, the host refuses.

    A prompt that leaves no room is left to the host to refuse, with its numbers.
    """
    most, limit = options.get("max_tokens"), context_length(found.info)
    if type(most) is not int or limit is None or most + _most_tokens(options, prompt) <= limit:
        return options
    if prompt is None:
        messages = options["messages"] or ()
        counting = exchange.client.count_tokens(messages, model=found.name, **_template(options))
        num_tokens = await exchange.run(counting)
    elif isinstance(prompt, str):
        num_tokens = await exchange.run(exchange.client.count_tokens(prompt, model=found.name))
    else:
        num_tokens = len(prompt)
    room = limit - num_tokens
    return {**options, "max_tokens": room} if 0 < room < most else options


def _most_tokens(options: GenerateOptions, prompt: Prompt | None) -> int:
    """At least as many tokens as the model is to read: one is at least a byte."""
    if prompt is None:
        return len(orjson.dumps([options["messages"], options.get("tools")])) + _TEMPLATE_BYTES
    return len(prompt.encode()) + 1 if isinstance(prompt, str) else len(prompt)


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
