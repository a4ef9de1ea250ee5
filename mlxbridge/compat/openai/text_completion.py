"""Answers to prompts as openai's objects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlxbridge.compat.openai.chat_completion import new_id
from mlxbridge.compat.openai.chat_completion import usage_of as usage_of_one
from mlxbridge.compat.openai.objects import Choice, Completion, CompletionUsage, Logprobs
from mlxbridge.types import Chunk, Generation, TokenLogprobs


def completion(answers: Sequence[Generation], num_choices: int, echoes: Sequence[str]) -> Completion:
    """The answers to prompts, ``num_choices`` to each."""
    choices = []
    for index, answer in enumerate(answers):
        echo = echoes[index // num_choices] if echoes else ""
        logprobs = None if answer.logprobs is None else logprobs_of(answer.logprobs, 0)
        choices.append(
            Choice(
                finish_reason=answer.finish_reason,
                index=index,
                logprobs=logprobs,
                text=echo + answer.text,
            )
        )
    made = Completion(
        id=new_id("cmpl"),
        choices=choices,
        created=int(time.time()),
        model=answers[0].model,
        object="text_completion",
        usage=usage_of(answers, num_choices),
    )
    made._request_id = answers[0].usage.request_id
    return made


class CompletionChunks:
    """The pieces of the answers to prompts."""

    def __init__(self, model: str, wants_usage: bool, num_choices: int, echoes: Sequence[str]) -> None:
        self._head = {"id": new_id("cmpl"), "created": int(time.time()), "object": "text_completion"}
        self._model = model  # as it was asked for: the first chunk comes before the host tells its own name
        self._wants_usage = wants_usage
        self._num_choices = num_choices
        self._echoes = echoes
        self._offsets: dict[int, int] = {}

    def begin(self, index: int) -> Iterator[Completion]:
        """Before an answer."""
        if self._echoes:
            yield self._chunk(index, self._echoes[index // self._num_choices])

    def take(self, index: int, chunk: Chunk) -> Iterator[Completion]:
        """What came of it."""
        if chunk.logprobs:
            offset = self._offsets.get(index, 0)
            self._offsets[index] = offset + sum(len(text_of(one)) for one in chunk.logprobs)
            yield self._chunk(index, chunk.text, logprobs=logprobs_of(chunk.logprobs, offset))
        elif chunk.text:
            yield self._chunk(index, chunk.text)

    def finish(self, index: int, answer: Generation) -> Iterator[Completion]:
        """It has ended."""
        yield self._chunk(index, "", finish_reason=answer.finish_reason)

    def end(self, answers: Sequence[Generation]) -> Iterator[Completion]:
        """All have."""
        if self._wants_usage:
            usage = usage_of(answers, self._num_choices)
            yield Completion(**self._head, model=self._model, choices=[], usage=usage)

    def _chunk(self, index: int, text: str, **fields: Any) -> Completion:
        return Completion(**self._head, model=self._model, choices=[Choice(index=index, text=text, **fields)])


def usage_of(answers: Sequence[Generation], num_choices: int) -> CompletionUsage:
    """What the answers to prompts took; each prompt counts once."""
    parts = [usage_of_one(answers[at : at + num_choices]) for at in range(0, len(answers), num_choices)]
    whole = parts[0]
    for part in parts[1:]:
        for name in ("completion_tokens", "prompt_tokens", "total_tokens"):
            whole[name] += part[name]
        whole.prompt_tokens_details.cached_tokens += part.prompt_tokens_details.cached_tokens
    return whole


def logprobs_of(tokens: Sequence[TokenLogprobs], offset: int) -> Logprobs:
    """Those of tokens, of which the first begins so many characters into the answer."""
    made = Logprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
    for one in tokens:
        text = text_of(one)
        made.text_offset.append(offset)
        made.tokens.append(text)
        made.token_logprobs.append(one.chosen.logprob)
        made.top_logprobs.append({other.data.decode(errors="replace"): other.logprob for other in one.top})
        offset += len(text)
    return made


def text_of(token: TokenLogprobs) -> str:
    """A token's text; of parts of characters U+FFFD."""
    return token.chosen.data.decode(errors="replace")
