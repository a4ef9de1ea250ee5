"""Bodies of ``/api/generate``, ``/api/chat``, ``/api/embed`` and ``/api/embeddings`` as what the host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mlxbridge.guest.gateway.ollama.durations import read_keep_alive
from mlxbridge.guest.gateway.ollama.fields import Fields, refused, shown
from mlxbridge.guest.gateway.ollama.formats import read_format
from mlxbridge.guest.gateway.ollama.options import NAMES, check_settings, read_sampling
from mlxbridge.types import EmbedOptions, GenerateOptions, KeepAlive, Message

CHAT_NAMES: Mapping[str, str] = {
    **NAMES,
    "response_format": "format",
    "response_format.schema": "format",
    "reasoning": "think",
    "chat_template_kwargs.reasoning_effort": "think",
    "logprobs": "top_logprobs",
}
"""Where the host's options are in the body of ``/api/chat``, by the host's names."""
GENERATE_NAMES: Mapping[str, str] = {**CHAT_NAMES, "messages": "prompt"}
"""As there, of ``/api/generate``."""
CONTEXT_NAMES: Mapping[str, str] = {**CHAT_NAMES, "prompt": "context"}
"""As there, of what goes on with a ``context``."""
EMBED_NAMES: Mapping[str, str] = {"inputs": "input"}
"""As there, of ``/api/embed``."""

LEVELS = ("low", "medium", "high", "max")
"""How much a model may be asked to think, if its template knows of that."""

_NOT_HERE = {
    "images": "the host's models read text",
    "suffix": "the host's models fill no gaps",
    "template": "the host's models have their own chat template; to do without it give raw",
    **dict.fromkeys(("width", "height", "steps"), "the host's models write text"),
}
_NOTHING_IS_CUT = "what is too long for the model is refused, not cut"
_FUNCTIONS_ALONE = {"type": ("function", "tools are functions")}
_ONLY = {"truncate": (False, _NOTHING_IS_CUT), "shift": (False, _NOTHING_IS_CUT)}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be answered.

    Attributes:
        model: its name, as it was given.
        options: of the host, but for ``model`` and what follows from ``think``; with the chat, if it is one.
        prompt: raw text; None for a chat.
        think: whether the model is to think, or how much of ``LEVELS``; None if that was not said.
        is_stream: whether the answer is wanted as it comes.
        is_empty: there is nothing to answer: the model is to be loaded, or with a ``keep_alive`` of 0 unloaded.
        tells_context: whether the answer ends with the tokens that the next question can go on with.
        context: such tokens, to stand before the chat.
    """

    model: str
    options: GenerateOptions
    prompt: str | None = None
    think: bool | str | None = None
    is_stream: bool = True
    is_empty: bool = False
    tells_context: bool = False
    context: tuple[int, ...] = ()

    @property
    def keep_alive(self) -> KeepAlive | None:
        """How long the model is to stay; None as the host has it."""
        return self.options.get("keep_alive")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Texts that are to become vectors.

    Attributes:
        model: its name, as it was given.
        texts: all of them; without any the model is to be loaded.
        options: of the host, but for ``model``.
    """

    model: str
    texts: list[str]
    options: EmbedOptions

    @property
    def keep_alive(self) -> KeepAlive | None:
        """As in ``Question``."""
        return self.options.get("keep_alive")


def read_model(fields: Fields) -> str:
    """The name of a model; older clients give it as ``name``.

    Raises:
        Problem: there is none.
    """
    model, name = fields.take_text("model"), fields.take_text("name")
    if not (model or name):
        raise refused("model", "is required")
    if name not in ("", model or name):
        raise refused("name", f"is another one than model, {shown(model)}: give one of them")
    return model or name


def read_generate(body: Mapping[str, Any]) -> Question:
    """The body of ``/api/generate``.

    Raises:
        Problem: it names the field that is wrong, or cannot be honoured.
    """
    fields = Fields(body)
    prompt, system = fields.take_text("prompt"), fields.take_text("system")
    is_raw, context = fields.take_flag("raw") or False, _context(fields.take_list("context"))
    common = _common(fields)
    if is_raw:
        for name, value in (("system", system), ("context", context), ("think", common.pop("think"))):
            if value:
                raise refused(name, "does not go with raw, which is the whole prompt")
        return Question(prompt=prompt, is_empty=not prompt, **common)
    turns: list[Message] = [{"role": "user", "content": prompt}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    common["options"]["messages"] = turns
    return Question(context=context, tells_context=True, is_empty=not prompt, **common)


def read_chat(body: Mapping[str, Any]) -> Question:
    """The body of ``/api/chat``.

    Raises:
        Problem: as ``read_generate``.
    """
    fields = Fields(body)
    messages = [_message(one, f"messages[{place}]") for place, one in enumerate(fields.take_list("messages"))]
    tools = [_tool(one, f"tools[{place}]") for place, one in enumerate(fields.take_list("tools"))]
    common = _common(fields)
    common["options"]["messages"] = messages
    if tools:
        common["options"]["tools"] = tools
    return Question(is_empty=not messages, **common)


def read_embed(body: Mapping[str, Any]) -> Inputs:
    """The body of ``/api/embed``.

    Raises:
        Problem: as ``read_generate``.
    """
    fields = Fields(body)
    given = fields.take("input")
    texts = [given] * (given != "") if isinstance(given, str) else [] if given is None else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise refused("input", "must be a text or a list of texts")
    truncate = fields.take_flag("truncate")
    options: dict[str, Any] = {"truncate": truncate is not False}
    if dimensions := fields.take_number("dimensions"):  # 0 is all of them
        options["dimensions"] = dimensions
    return _inputs(fields, texts, options)


def read_embeddings(body: Mapping[str, Any]) -> Inputs:
    """The body of ``/api/embeddings``, whose vectors are as the model makes them.

    Raises:
        Problem: as ``read_generate``.
    """
    fields = Fields(body)
    prompt = fields.take_text("prompt")
    return _inputs(fields, [prompt] if prompt else [], {"normalize": None})


def _inputs(fields: Fields, texts: list[str], options: dict[str, Any]) -> Inputs:
    keep_alive = read_keep_alive(fields.take("keep_alive"))
    if keep_alive is not None:
        options["keep_alive"] = keep_alive
    check_settings(fields.take_map("options"))
    model = read_model(fields)
    fields.finish()
    return Inputs(model=model, texts=texts, options=cast(EmbedOptions, options))


def _common(fields: Fields) -> dict[str, Any]:
    """What ``/api/generate`` and ``/api/chat`` have in common, and nothing else is left behind."""
    options = {
        **read_sampling(fields.take_map("options")),
        "keep_alive": read_keep_alive(fields.take("keep_alive")),
        "response_format": read_format(fields.take("format")),
        "logprobs": _logprobs(fields),
    }
    is_stream = fields.take_flag("stream")
    common = {
        "model": read_model(fields),
        "options": {name: value for name, value in options.items() if value is not None},
        "think": _think(fields.take("think")),
        "is_stream": is_stream is not False,
    }
    fields.refuse(_NOT_HERE)
    fields.allow(_ONLY)
    fields.finish()
    return common


def _think(given: Any) -> bool | str | None:
    if given is None or isinstance(given, bool) or given in LEVELS:
        return cast("bool | str | None", given)
    raise refused("think", f"must be true, false or one of {', '.join(LEVELS)}, not {shown(given)}")


def _logprobs(fields: Fields) -> int | None:
    is_wanted, num_others = fields.take_flag("logprobs"), fields.take_number("top_logprobs")
    if is_wanted:
        return num_others or 0
    if num_others:
        raise refused("top_logprobs", "needs logprobs")
    return None


def _context(given: list[Any]) -> tuple[int, ...]:
    if not all(type(token) is int and token >= 0 for token in given):
        raise refused("context", "must be the tokens that an earlier answer ended with")
    return tuple(given)


def _message(given: Any, place: str) -> Message:
    """A turn as the host takes it."""
    if not isinstance(given, dict):
        raise refused(place, f"must be an object, not {shown(given)}")
    fields = Fields(given, f"{place}.")
    content = fields.take("content")
    message: dict[str, Any] = {
        "role": fields.take_text("role"),
        "content": "" if content is None else content,
    }
    if reasoning := fields.take_text("thinking"):
        message["reasoning"] = reasoning
    calls = fields.take_list("tool_calls")
    if calls:
        message["tool_calls"] = [
            _call(one, f"{place}.tool_calls[{number}]") for number, one in enumerate(calls)
        ]
    if name := fields.take_text("tool_name") or fields.take_text("name"):
        message["name"] = name
    if answered := fields.take_text("tool_call_id"):
        message["tool_call_id"] = answered
    fields.refuse(_NOT_HERE)
    fields.finish()
    return cast(Message, message)


def _call(given: Any, place: str) -> dict[str, Any]:
    """A call that the model made, as the host takes it back."""
    if not isinstance(given, dict) or not isinstance(given.get("function"), dict):
        raise refused(place, 'must be {"function": {"name": …, "arguments": {…}}}')
    fields, function = Fields(given, f"{place}."), Fields(given["function"], f"{place}.function.")
    arguments = function.take("arguments")
    call: dict[str, Any] = {
        "type": "function",
        "function": {
            "name": function.take_text("name"),
            "arguments": {} if arguments in (None, "") else arguments,
        },
    }
    if known := fields.take_text("id"):
        call["id"] = known
    fields.take("function")
    fields.allow(_FUNCTIONS_ALONE)
    for part in (fields, function):
        part.take_number("index")  # which the list tells, too
    fields.finish()
    function.finish()
    return call


def _tool(given: Any, place: str) -> dict[str, Any]:
    """A tool as the host takes it, which checks what it is called and takes."""
    if not isinstance(given, dict) or not isinstance(given.get("function"), dict):
        raise refused(place, 'must be {"type": "function", "function": {"name": …, "parameters": {…}}}')
    fields, function = Fields(given, f"{place}."), Fields(given["function"], f"{place}.function.")
    fields.take("function")
    fields.allow(_FUNCTIONS_ALONE)
    fields.finish()
    told = {
        "name": function.take("name"),
        "description": function.take_text("description") or None,
        "parameters": function.take("parameters"),
        "strict": function.take_flag("strict"),
    }
    function.finish()
    return {
        "type": "function",
        "function": {name: value for name, value in told.items() if value is not None},
    }
