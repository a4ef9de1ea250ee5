"""Answers to chats as openai's objects."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlxbridge.compat.openai.call_deltas import CallDeltas
from mlxbridge.compat.openai.objects import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageToolCall,
    Choice,
    ChoiceDelta,
    ChoiceLogprobs,
    CompletionUsage,
    Function,
    ParsedChatCompletion,
    ParsedChatCompletionMessage,
    ParsedChoice,
    ParsedFunction,
    ParsedFunctionToolCall,
    TokenLogprob,
    TokensDetails,
)
from mlxbridge.types import Chunk, Generation, TokenLogprobs, ToolCall
from mlxbridge.types import TokenLogprob as HostLogprob


def chat_completion(answers: Sequence[Generation], *, is_parsed: bool = False) -> ChatCompletion:
    """The answers to one chat.

    Args:
        answers: of the host.
        is_parsed: whether messages have ``parsed``, which is None until it is set.
    """
    kind = ParsedChatCompletion if is_parsed else ChatCompletion
    made = kind(
        id=new_id("chatcmpl"),
        choices=[_choice(index, answer, is_parsed) for index, answer in enumerate(answers)],
        created=int(time.time()),
        model=answers[0].model,
        object="chat.completion",
        usage=usage_of(answers),
    )
    made._request_id = answers[0].usage.request_id
    return made


class ChatChunks:
    """The pieces of the answers to one chat.

    Attributes:
        answers: those that have ended, by index.
    """

    def __init__(self, model: str, wants_usage: bool) -> None:
        self._head = {
            "id": new_id("chatcmpl"),
            "created": int(time.time()),
            "object": "chat.completion.chunk",
        }
        self._model = model  # as it was asked for: the first chunk comes before the host tells its own name
        self._wants_usage = wants_usage
        self.answers: dict[int, Generation] = {}
        self._calls = CallDeltas()

    def begin(self, index: int) -> Iterator[ChatCompletionChunk]:
        """Before an answer."""
        yield self._chunk(index, {"role": "assistant", "content": ""})

    def take(self, index: int, chunk: Chunk) -> Iterator[ChatCompletionChunk]:
        """What came of it."""
        delta: dict[str, Any] = {}
        text = chunk.text + "".join(call.text for call in chunk.tool_calls if call.malformed)
        if text or chunk.logprobs:
            delta["content"] = text
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if delta:
            yield self._chunk(index, delta, logprobs=logprobs_of(chunk.logprobs))
        for told in self._calls.tell(index, chunk.tool_calls):
            yield self._chunk(index, {"tool_calls": [told]})

    def finish(self, index: int, answer: Generation) -> Iterator[ChatCompletionChunk]:
        """It has ended."""
        self.answers[index] = answer
        yield self._chunk(index, {}, finish_reason=answer.finish_reason)

    def end(self, answers: Sequence[Generation]) -> Iterator[ChatCompletionChunk]:
        """All have."""
        if self._wants_usage:
            yield ChatCompletionChunk(**self._head, model=self._model, choices=[], usage=usage_of(answers))

    def _chunk(self, index: int, delta: dict[str, Any], **fields: Any) -> ChatCompletionChunk:
        given = {name: value for name, value in fields.items() if value is not None}
        choice = Choice(index=index, delta=ChoiceDelta(**delta), **given)
        return ChatCompletionChunk(**self._head, model=self._model, choices=[choice])


def usage_of(answers: Sequence[Generation]) -> CompletionUsage:
    """What the answers to one prompt took; the prompt counts once."""
    usages = [answer.usage for answer in answers]
    completion = sum(usage.completion_tokens for usage in usages)
    made = CompletionUsage(
        completion_tokens=completion,
        prompt_tokens=usages[0].prompt_tokens,
        total_tokens=usages[0].prompt_tokens + completion,
        prompt_tokens_details=TokensDetails(cached_tokens=usages[0].cached_tokens),
    )
    reasoning = [usage.reasoning_tokens for usage in usages if usage.reasoning_tokens is not None]
    if reasoning:
        made.completion_tokens_details = TokensDetails(reasoning_tokens=sum(reasoning))
    return made


def new_id(kind: str) -> str:
    """A name for an answer."""
    return f"{kind}-{secrets.token_hex(12)}"


def _choice(index: int, answer: Generation, is_parsed: bool) -> Choice:
    text = answer.text + "".join(call.text for call in answer.tool_calls if call.malformed)
    calls = [call for call in answer.tool_calls if not call.malformed]
    kind = ParsedChatCompletionMessage if is_parsed else ChatCompletionMessage
    message = kind(role="assistant", content=text if text or not calls else None, refusal=None)
    if calls:
        message.tool_calls = [_parsed_call(call) if is_parsed else _tool_call(call) for call in calls]
    if answer.reasoning:
        message.reasoning_content = answer.reasoning
    return (ParsedChoice if is_parsed else Choice)(
        finish_reason=answer.finish_reason,
        index=index,
        logprobs=logprobs_of(answer.logprobs),
        message=message,
    )


def _tool_call(call: ToolCall) -> ChatCompletionMessageToolCall:
    function = Function(name=call.name, arguments=call.text)
    return ChatCompletionMessageToolCall(id=call.id, type="function", function=function)


def _parsed_call(call: ToolCall) -> ParsedFunctionToolCall:
    function = ParsedFunction(name=call.name, arguments=call.text, parsed_arguments=call.arguments)
    return ParsedFunctionToolCall(id=call.id, type="function", function=function)


def logprobs_of(tokens: Sequence[TokenLogprobs] | None) -> ChoiceLogprobs | None:
    """Those of tokens, None for none."""
    if tokens is None:
        return None
    content = [
        TokenLogprob(
            **token_of(one.chosen), top_logprobs=[TokenLogprob(**token_of(other)) for other in one.top]
        )
        for one in tokens
    ]
    return ChoiceLogprobs(content=content)


def token_of(token: HostLogprob) -> dict[str, Any]:
    """One token."""
    return {
        "token": token.data.decode(errors="replace"),
        "bytes": list(token.data),
        "logprob": token.logprob,
    }
