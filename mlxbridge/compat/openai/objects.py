"""What the calls give: openai's objects, by attribute, and as the dicts that they once were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar


class Object(dict[str, Any]):
    """Fields by attribute or by key; what the host did not say, of fields that may be missing, is None."""

    optional: ClassVar[tuple[str, ...]] = ()
    """Names of these fields."""

    _request_id: str | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it has {', '.join(self.keys())}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __missing__(self, name: str) -> None:
        if name not in self.optional:
            raise KeyError(name)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({fields})"

    def to_dict(self, *, exclude_unset: bool = True, exclude_none: bool = False) -> dict[str, Any]:
        """Plain dicts and lists; without what the host did not say."""
        return self.model_dump(exclude_unset=exclude_unset, exclude_none=exclude_none)

    def model_dump(
        self, *, mode: str = "python", exclude_unset: bool = False, exclude_none: bool = False
    ) -> dict[str, Any]:
        """Plain dicts and lists; what the host did not say is None, unless ``exclude_unset``."""
        fields = dict(self) if exclude_unset else {**dict.fromkeys(self.optional), **self}
        return {
            name: _plain(value, mode, exclude_unset, exclude_none)
            for name, value in fields.items()
            if value is not None or not exclude_none
        }

    def model_dump_json(
        self, *, indent: int | None = None, exclude_unset: bool = False, exclude_none: bool = False
    ) -> str:
        """The same as JSON."""
        fields = self.model_dump(mode="json", exclude_unset=exclude_unset, exclude_none=exclude_none)
        return json.dumps(
            fields, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":")
        )

    def to_json(
        self, *, indent: int | None = 2, exclude_unset: bool = True, exclude_none: bool = False
    ) -> str:
        """``to_dict`` as JSON."""
        return self.model_dump_json(indent=indent, exclude_unset=exclude_unset, exclude_none=exclude_none)


def _plain(value: Any, mode: str, exclude_unset: bool, exclude_none: bool) -> Any:
    if isinstance(value, Object):
        return value.model_dump(mode=mode, exclude_unset=exclude_unset, exclude_none=exclude_none)
    if isinstance(value, list):
        return [_plain(one, mode, exclude_unset, exclude_none) for one in value]
    dump = getattr(value, "model_dump", None)  # what ``parse`` made of an answer
    return value if dump is None else dump(mode=mode)


class ChatCompletion(Object):
    """Answers to a chat."""

    optional = ("service_tier", "system_fingerprint", "usage")


class ParsedChatCompletion(ChatCompletion):
    """The same of ``parse``."""


class ChatCompletionChunk(Object):
    """A piece of them."""

    optional = ("service_tier", "system_fingerprint", "usage")


class Choice(Object):
    """One answer, or a piece of one."""

    optional = ("finish_reason", "logprobs")


class ParsedChoice(Choice):
    """The same of ``parse``."""


class ChatCompletionMessage(Object):
    """What the model says; ``reasoning_content`` is there if it thought."""

    optional: ClassVar[tuple[str, ...]] = (
        "content",
        "refusal",
        "annotations",
        "audio",
        "function_call",
        "tool_calls",
    )


class ParsedChatCompletionMessage(ChatCompletionMessage):
    """The same of ``parse``; ``parsed`` is the object."""

    optional = (*ChatCompletionMessage.optional, "parsed")


class ChoiceDelta(Object):
    """What a piece adds."""

    optional = ("content", "function_call", "refusal", "role", "tool_calls")


class ChatCompletionMessageToolCall(Object):
    """A call of a tool."""


class ParsedFunctionToolCall(ChatCompletionMessageToolCall):
    """The same of ``parse``."""


class ChoiceDeltaToolCall(Object):
    """What a piece of an answer adds to one, see ``call_deltas``."""

    optional = ("id", "function", "type")


class Function(Object):
    """The tool's name and the arguments, as JSON text."""


class ParsedFunction(Function):
    """The same of ``parse``; ``parsed_arguments`` is the object."""

    optional = ("parsed_arguments",)


class ChoiceDeltaToolCallFunction(Object):
    """What a piece of an answer adds to them."""

    optional = ("name", "arguments")


class ChoiceLogprobs(Object):
    """Of each token."""

    optional = ("content", "refusal")


class TokenLogprob(Object):
    """Of one token."""

    optional = ("bytes",)


class Completion(Object):
    """Answers to prompts, or a piece of them."""

    optional = ("system_fingerprint", "usage")


class Logprobs(Object):
    """Of each token of an answer to a prompt."""

    optional = ("text_offset", "token_logprobs", "tokens", "top_logprobs")


class CompletionUsage(Object):
    """What it took, in tokens."""

    optional = ("completion_tokens_details", "prompt_tokens_details")


class TokensDetails(Object):
    """Of which so many; what the host does not count, ``audio_tokens`` for one, is None."""

    def __missing__(self, name: str) -> None:
        if not name.endswith("_tokens"):
            raise KeyError(name)


class CreateEmbeddingResponse(Object):
    """Vectors."""


class Embedding(Object):
    """One of them."""


class Model(Object):
    """A model of the host."""


class Page(Object):
    """A list; iterates over ``data``."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self["data"])
