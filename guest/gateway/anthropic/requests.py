"""The body of a request as what the host is to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mlxbridge.compat.refusal import is_one_of, refused
from mlxbridge.guest.gateway.anthropic.chat import Chat, read_chat
from mlxbridge.guest.gateway.anthropic.checks import (
    read_choice,
    read_list,
    read_object,
    read_switch,
    read_text,
)
from mlxbridge.guest.gateway.anthropic.thinking import Thinking, read_thinking
from mlxbridge.guest.gateway.anthropic.tools import read_tool_choice, read_tools
from mlxbridge.guest.gateway.model_facts import ModelFacts
from mlxbridge.types import GenerateOptions, Message

HARMLESS = frozenset(
    {
        *("betas", "cache_control", "diagnostics", "metadata", "service_tier", "user_profile_id"),
        "workspace_id",
    }
)
"""They change nothing of an answer, and are taken for nothing."""

_SAME = ("model", "max_tokens", "temperature", "top_p", "top_k")
_HOSTS_OWN = (
    "chat_template_kwargs",
    "keep_alive",
    "min_p",
    "priority",
    "repetition_penalty",
    "seed",
    "speculation",
)
"""Options of the host that Anthropic's API has nothing like."""
_ONLY: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "speed": (("standard",), "the host has one speed"),
    "mcp_servers": (([],), "the host calls no servers; give tools"),
    "fallbacks": (([], "default"), "the host asks one model"),
    "container": (({},), "the host runs no code"),
    "thread": (({},), "the host keeps no chats; send all of it each time"),
}
_MEMBERS = (
    *("messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking"),
    *("output_format", "output_config", "context_management"),
)
COUNTED = frozenset(
    {
        *HARMLESS,
        *("model", "messages", "system", "tools", "tool_choice", "thinking", "output_format"),
        *("output_config", "context_management", "mcp_servers", "speed"),
        *("chat_template_kwargs", "keep_alive"),
    }
)
"""What has a part in how many tokens a chat is, and what Anthropic takes there besides."""
_CLEAR_THINKING = ("type", "keep")

_NAMES = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "reasoning": "thinking",
    "max_reasoning_tokens": "thinking.budget_tokens",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
"""What the host's options are called here, where it is otherwise."""


@dataclass(frozen=True)
class MessageRequest:
    """A body that was read.

    Attributes:
        chat: what was said.
        thinking: whether the model is to think.
        given: the host's other options.
        is_stream: the answer is wanted as it comes.
        tool_origins: where in the body each tool stands.
    """

    chat: Chat
    thinking: Thinking
    given: Mapping[str, Any]
    is_stream: bool
    tool_origins: list[str]

    @property
    def model(self) -> str | None:
        """The name that was asked for."""
        return self.given.get("model")

    @property
    def names(self) -> dict[str, str]:
        """The body's names of fields, by the host's."""
        names = dict(_NAMES)
        for place, origin in enumerate(self.chat.origins):
            names[f"messages[{place}]"] = origin
        for place, origin in enumerate(self.tool_origins):
            names[f"tools[{place}]"] = names[f"tools[{place}].function"] = origin
            names[f"tools[{place}].function.parameters"] = f"{origin}.input_schema"
        return names

    def options(self, facts: ModelFacts | None) -> GenerateOptions:
        """What to ask the host for.

        Args:
            facts: of the model; None where nothing is known.
        """
        options = {**self.given, **self.thinking.options(facts), "messages": self.messages(facts)}
        return cast(GenerateOptions, options)

    def messages(self, facts: ModelFacts | None) -> list[Message]:
        """What was said, as far as the model can read it: what was thought before is left out where it has no place."""
        messages = self.chat.messages
        if facts is not None and not facts.keeps_reasoning:
            for message in messages:
                message.pop("reasoning", None)
        return messages


def read_request(body: Mapping[str, Any], *, is_count: bool = False) -> MessageRequest:
    """The body of ``/v1/messages``, or of ``/v1/messages/count_tokens``.

    Args:
        body: as it was decoded.
        is_count: tokens are to be counted, so ``max_tokens`` may be missing.

    Raises:
        UsageError: a field is wrong, or cannot be honoured; ``details["field"]`` names it.
    """
    given = _known(body, COUNTED if is_count else frozenset({*_SAME, *_HOSTS_OWN, *_MEMBERS, *_ONLY}))
    if "max_tokens" not in given and not is_count:
        raise refused("max_tokens", "is missing: the most tokens that the answer may have")
    if "messages" not in given:
        raise refused("messages", "is missing")
    chat = read_chat(given.get("system"), given["messages"])
    options = {name: given[name] for name in (*_SAME, *_HOSTS_OWN) if name in given}
    if "model" in options:
        read_text(options["model"], "model")
    if "stop_sequences" in given:
        texts = read_list(given["stop_sequences"], "stop_sequences")
        options["stop"] = [read_text(text, f"stop_sequences.{i}") for i, text in enumerate(texts)]
    tools, origins = read_tools(given.get("tools", []), chat.loaded_tools)
    if tools:
        options["tools"] = tools
    if "tool_choice" in given:
        options.update(read_tool_choice(given["tool_choice"]))
    if (schema := _read_format(given)) is not None:
        options["response_format"] = {"type": "json_schema", "schema": schema}
    _check_context_management(given.get("context_management", {}))
    return MessageRequest(
        chat=chat,
        thinking=read_thinking(given.get("thinking")),
        given=options,
        is_stream=read_switch(given.get("stream", False), "stream"),
        tool_origins=origins,
    )


def _known(body: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """What is not left out, without what changes nothing."""
    given = {}
    for name, value in body.items():
        if value is None or name in HARMLESS:
            continue
        if name not in known:
            raise refused(name, f"is not supported; there are {', '.join(sorted(known | HARMLESS))}")
        if name not in _ONLY:
            given[name] = value
        elif not is_one_of(value, _ONLY[name][0]):
            raise refused(name, f"is not supported: {_ONLY[name][1]}")
    return given


def _read_format(given: Mapping[str, Any]) -> Any:
    """The schema that the answer has to keep to; None for no such."""
    config = read_object(given.get("output_config", {}), "output_config", ("effort", "format"))
    if "effort" in config:
        read_text(config["effort"], "output_config.effort")
    wanted = [(given["output_format"], "output_format")] if "output_format" in given else []
    if "format" in config:
        wanted.append((config["format"], "output_config.format"))
    if len(wanted) > 1:
        raise refused("output_format", "is what output_config.format once was; give one of them")
    for value, path in wanted:
        format_ = read_object(value, path, ("type", "schema", "name"))
        read_text(format_.get("name", ""), f"{path}.name")
        read_choice(format_.get("type"), f"{path}.type", ("json_schema",))
        schema = value.get("schema")
        read_object(schema, f"{path}.schema")
        return schema
    return None


def _check_context_management(value: Any) -> None:
    """What was thought before is left to the chat template in any case; nothing else is taken out of a chat."""
    edits = read_object(value, "context_management", ("edits",)).get("edits", [])
    for index, edit in enumerate(read_list(edits, "context_management.edits")):
        path = f"context_management.edits.{index}"
        kind = read_object(edit, path).get("type")
        if not isinstance(kind, str) or not kind.startswith("clear_thinking_"):
            raise refused(f"{path}.type", f"{kind!r} is not supported: the host edits no chats")
        read_object(edit, path, _CLEAR_THINKING)
