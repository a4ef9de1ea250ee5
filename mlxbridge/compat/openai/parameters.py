"""Parameters of openai's calls, of Python or of JSON, as those of the host; what has no like there is refused by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mlxbridge.compat.openai.nested import (
    read_message,
    read_response_format,
    read_tool,
    read_tool_choice,
    wants_usage,
)
from mlxbridge.compat.refusal import check_members, is_one_of, refused
from mlxbridge.types import GenerateOptions, Prompt

HARMLESS = frozenset(
    {"user", "store", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""They change nothing of an answer, and are taken for nothing."""

_SAME = ("model", "temperature", "top_p", "seed", "stop")
_PENALTIES = ("presence_penalty", "frequency_penalty")
_WHOLE_TEXT = 4096  # the most that a host takes; openai's penalties look at the text so far
_MOST_ANSWERS = 1024  # as many calls as a host takes at once
_OPTIONS = frozenset(GenerateOptions.__annotations__)
_NOT_HERE: Mapping[str, str] = {
    "functions": "openai has given them up: give tools",
    "function_call": "openai has given it up: give tool_choice",
    "audio": "the host's models write text",
    "prediction": 'give speculation "ngram", an option of the host: it drafts from the prompt',
    "web_search_options": "the host searches nothing",
    "moderation": "the host moderates nothing",
    "prompt_cache_options": "the host keeps prefixes of prompts by itself",
    "suffix": "the host's models fill no gaps",
    "extra_headers": "there are no headers on the way to the host",
    "extra_query": "there is no query on the way to the host",
}
_ONLY: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "modalities": ((["text"], ("text",)), "the host's models write text"),
    "service_tier": (("auto", "default"), 'give priority "low" or "high", an option of the host'),
    "best_of": ((1,), "give n, and choose"),
    "verbosity": (("medium",), "the host's models have no such switch; say it in the prompt"),
}


_EVERYWHERE = HARMLESS.union(
    *(_NOT_HERE, _ONLY, _SAME, _PENALTIES),
    ("logit_bias", "timeout", "n", "stream", "stream_options", "extra_body"),
)
_OF_CHATS = _EVERYWHERE.union(
    ("messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "tools", "tool_choice"),
    ("parallel_tool_calls", "response_format", "reasoning_effort"),
)
_OF_PROMPTS = _EVERYWHERE.union(("prompt", "max_tokens", "logprobs", "echo"))


class NotGiven:
    """openai's word for a parameter that is left out."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"


class Omit(NotGiven):
    """The same, as openai has it for what is not even to be sent."""

    def __repr__(self) -> str:
        return "omit"


NOT_GIVEN = not_given = NotGiven()
omit = Omit()


@dataclass(frozen=True)
class Plan:
    """A call, or several that are answered together.

    Attributes:
        prompts: of each; ``[None]`` for a chat, which is among the options.
        options: of all.
        num_choices: answers to each prompt.
        is_stream: whether they are wanted as they come.
        wants_usage: whether a stream ends with its usage.
        echoes: the text that is to stand before each prompt's answers.
        names: of parameters as the caller knows them, by the host's.
    """

    prompts: list[Prompt | None]
    options: GenerateOptions
    num_choices: int = 1
    is_stream: bool = False
    wants_usage: bool = False
    echoes: list[str] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The name that was asked for."""
        return str(self.options.get("model", ""))

    def calls(self) -> list[tuple[Prompt | None, GenerateOptions]]:
        """One for each answer; with a seed each answer to a prompt has its own, the next number."""
        seed = self.options.get("seed")
        each: list[GenerateOptions] = [self.options] * self.num_choices
        if type(seed) is int:  # what is no seed at all the host refuses by name
            each[1:] = [
                {**self.options, "seed": (seed + number) % (1 << 64)} for number in range(1, self.num_choices)
            ]
        return [(prompt, options) for prompt in self.prompts for options in each]


def chat_plan(given: Mapping[str, Any]) -> Plan:
    """What ``chat.completions.create`` was given.

    Raises:
        UsageError: a parameter is none, or the host has nothing like it; ``details["field"]`` names it.
    """
    left = _given(given, _OF_CHATS)
    options, names = _common(left)
    options["messages"] = [read_message(one, place) for place, one in enumerate(_messages(left))]
    for name in ("max_tokens", "max_completion_tokens"):
        if name in left:
            limit = left.pop(name)
            if not is_one_of(options.setdefault("max_tokens", limit), (limit,)):
                why = "is the same as max_completion_tokens, which says otherwise; give one"
                raise refused("max_tokens", why)
            names["max_tokens"] = name
    _take_logprobs(left, options, names)
    if "parallel_tool_calls" in left:
        options["parallel_tool_calls"] = left.pop("parallel_tool_calls")
    if "tools" in left:
        options["tools"] = _tools(left.pop("tools"))
    if "tool_choice" in left:
        options["tool_choice"] = read_tool_choice(left.pop("tool_choice"))
    if "response_format" in left:
        wanted = options["response_format"] = read_response_format(left.pop("response_format"))
        if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
            names["response_format.schema"] = "response_format.json_schema.schema"
    if "reasoning_effort" in left:
        options |= reasoning_options(left.pop("reasoning_effort"))
        names |= {
            "reasoning": "reasoning_effort",
            "chat_template_kwargs.reasoning_effort": "reasoning_effort",
        }
    return _finish(left, [None], options, names)


def reasoning_options(effort: Any) -> dict[str, Any]:
    """How hard the model is to think, as options: "none" is not at all, and what else there is the model's template knows.

    Those of a template that has no ``reasoning_effort`` refuse it; ``reasoning`` alone switches them.
    """
    if effort == "none":
        return {"reasoning": False}
    return {"reasoning": True, "chat_template_kwargs": {"reasoning_effort": effort}}


def completion_plan(given: Mapping[str, Any]) -> Plan:
    """What ``completions.create`` was given; errors as for ``chat_plan``."""
    left = _given(given, _OF_PROMPTS)
    options, names = _common(left)
    prompts = _prompts(left.pop("prompt", None))
    options["max_tokens"] = left.pop("max_tokens", 16)  # as openai's
    if "logprobs" in left:
        options["logprobs"] = left.pop("logprobs")
    echoes: list[str] = []
    if _take_switch(left, "echo"):
        if "logprobs" in options:
            raise refused("echo", "the host tells no log-probabilities of a prompt: leave one of the two out")
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise refused("echo", "is for prompts that are texts")
        echoes = cast(list[str], prompts)
    return _finish(left, prompts, options, names, echoes)


def check_names(given: Iterable[str], known: Collection[str], own: Collection[str]) -> None:
    """Refuse parameters that there are none of.

    Args:
        given: by name.
        known: openai's.
        own: the host's, which ``extra_body`` has.

    Raises:
        UsageError: it names the first one, and the nearest right name.
    """
    for name in given:
        if name in own and name not in known:
            raise refused(name, "openai has no such parameter; those of the host go into extra_body")
        check_members((name,), known)


def _given(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """What is not left out, without what changes nothing and what may be said to no effect."""
    left = {name: value for name, value in given.items() if value is not None and not is_left_out(value)}
    check_names(left, known, _OPTIONS)
    for name in [name for name in left if name in HARMLESS]:
        del left[name]
    for name, value in list(left.items()):
        if name in _NOT_HERE and value not in ({}, []):
            raise refused(name, _NOT_HERE[name])
        if name in _ONLY and not is_one_of(value, _ONLY[name][0]):
            allowed, why = _ONLY[name]
            raise refused(name, f"is {' or '.join(dict.fromkeys(map(json.dumps, allowed)))} here; {why}")
        if name in _NOT_HERE or name in _ONLY:
            del left[name]
    return left


def is_left_out(value: Any) -> bool:
    """Whether it is openai's word for that, of the original package or of the drop-in."""
    return type(value).__name__ in ("NotGiven", "Omit")


def _common(left: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    options = {name: left.pop(name) for name in _SAME if name in left}
    for name in _PENALTIES:
        if name in left:
            options[name] = left.pop(name)
            options[name.replace("penalty", "context_size")] = _WHOLE_TEXT
    if "logit_bias" in left:
        options["logit_bias"] = logit_bias_of(left.pop("logit_bias"))
    if "timeout" in left:
        options["timeout"] = left.pop("timeout")
    return options, {}


def _finish(
    left: dict[str, Any],
    prompts: list[Prompt | None],
    options: dict[str, Any],
    names: dict[str, str],
    echoes: Sequence[str] = (),
) -> Plan:
    num_choices, is_stream = left.pop("n", 1), _take_switch(left, "stream")
    most = max(1, _MOST_ANSWERS // len(prompts))
    if type(num_choices) is not int or not 1 <= num_choices <= most:
        raise refused("n", f"must be a number from 1 to {most}, not {num_choices!r}")
    if len(prompts) > _MOST_ANSWERS:
        raise refused("prompt", f"must be at most {_MOST_ANSWERS} of them, not {len(prompts)}")
    wanted = left.pop("stream_options", None)
    if wanted is not None and not is_stream:
        raise refused("stream_options", "needs stream to be true")
    extra = take_extra(left, _OPTIONS)
    return Plan(
        prompts=prompts,
        options=_merged(options, extra),
        num_choices=num_choices,
        is_stream=is_stream,
        wants_usage=wants_usage({} if wanted is None else wanted),
        echoes=list(echoes),
        names=names,
    )


def take_extra(left: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The host's own options, which ``extra_body`` has.

    Raises:
        UsageError: it has something else.
    """
    extra = left.pop("extra_body", {})
    if not isinstance(extra, Mapping):
        raise refused("extra_body", f"must map names of options to values, not be {extra!r}")
    for name in extra:
        if name not in known:
            raise refused(str(name), f"the host has no such option; it has {', '.join(sorted(known))}")
    return dict(extra)


def _take_switch(left: dict[str, Any], name: str) -> bool:
    value = left.pop(name, False)
    if not isinstance(value, bool):
        raise refused(name, f"must be true or false, not {value!r}")
    return value


def _merged(options: Mapping[str, Any], extra: Mapping[str, Any]) -> GenerateOptions:
    own = {**options, **extra}
    if "chat_template_kwargs" in options and extra.get("chat_template_kwargs") is not None:
        given = extra["chat_template_kwargs"]
        if not isinstance(given, Mapping):
            raise refused("chat_template_kwargs", f"must map names to values, not be {given!r}")
        own["chat_template_kwargs"] = {**options["chat_template_kwargs"], **given}
    return cast(GenerateOptions, own)


def _take_logprobs(left: dict[str, Any], options: dict[str, Any], names: dict[str, str]) -> None:
    given, top = left.pop("logprobs", False), left.pop("top_logprobs", None)
    if not isinstance(given, bool):
        raise refused("logprobs", f"must be true or false, not {given!r}; top_logprobs says how many")
    if top is not None and not given:
        raise refused("top_logprobs", "needs logprobs to be true")
    if given:
        options["logprobs"] = top or 0
        names["logprobs"] = "top_logprobs"


def _messages(left: dict[str, Any]) -> list[Any]:
    if "messages" not in left:
        raise refused("messages", "is missing; give a list of messages")
    given = left.pop("messages")
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise refused("messages", "must be a list of messages")
    return list(given)


def logit_bias_of(given: Any) -> dict[int, Any]:
    """By token ids, which are texts in JSON."""
    if not isinstance(given, Mapping):
        raise refused("logit_bias", f"must map token ids to numbers, not be {given!r}")
    for token in given:
        is_text = isinstance(token, str) and token.isascii() and token.isdigit()
        if type(token) is not int and not is_text:
            raise refused("logit_bias", f"must map token ids to numbers, of which {token!r} is none")
    return {int(token): number for token, number in given.items()}


def _tools(given: Any) -> Any:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return given  # for the client to refuse
    return [read_tool(tool, f"tools[{place}]") for place, tool in enumerate(given)]


def _prompts(given: Any) -> list[Prompt | None]:
    """The prompts: a text, token ids, or a list of either."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise refused("prompt", "must be a text, token ids, or a list of either")
    prompts = list(given)
    if not prompts:
        raise refused("prompt", "must not be an empty list")
    return [prompts] if all(isinstance(one, int) for one in prompts) else prompts
