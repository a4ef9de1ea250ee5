"""Arguments of the clients' methods, as the params of a CALL (SPEC.md §10).

Only what cannot be sent is refused here; the host checks values, since it knows what the model can do.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from mlxbridge.errors import UsageError
from mlxbridge.guest.call import read_number
from mlxbridge.protocol.limits import Limits
from mlxbridge.types import (
    GenerateOptions,
    KeepAlive,
    ManyPrompt,
    MemoryStatus,
    Message,
    ModelInfo,
    Options,
    Prompt,
    Status,
)

MAX_TOKEN_ID = 0xFFFF_FFFF
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 64) - 1
MAX_CHOICES = Limits().max_calls
"""As many calls as a host allows at once, if it allows what hosts do by default."""
MAX_ROUNDS = 10
"""Of ``run_tools``: answers with calls that are run."""

OPTIONS = frozenset(GenerateOptions.__annotations__)
NOT_SENT = frozenset({"timeout", "retry"})
"""Options that are for the client alone."""

_ARGUMENTS = ("prompt", "stream", "n")
_ELSEWHERE = {
    "system": 'conversation() has it; else it is a message, {"role": "system", "content": …}',
    "stream": "generate() and chat() have it; what stream() gives is a stream without it",
    "n": "generate() and chat() have it, for several answers at once; a stream is one answer",
    "prompt": "generate() and stream() have it; a chat is messages",
}
"""Where there is what some look for among the options."""


def generate_params(prompt: Prompt | None, options: GenerateOptions) -> dict[str, Any]:
    """Params of ``generate``: what was given, and nothing else.

    Raises:
        UsageError: a name that is none, both or neither of prompt and messages, or a value that cannot be sent.
    """
    given = dict(options)
    _check_names(given)
    if (prompt is None) is (given.get("messages") is None):
        raise wrong("prompt", "give either prompt (raw text or token ids) or messages (a chat)")
    params = encode_options(given)
    if prompt is not None:
        params["prompt"] = _encode_prompt(prompt)
    return params


def common_params(options: Options) -> dict[str, Any]:
    """Params that all requests of ``generate_many`` share.

    Raises:
        UsageError: a name that is none, or a value that cannot be sent.
    """
    given = dict(options)
    _check_names(given)
    if "messages" in given:
        raise wrong("messages", "a chat is one of the prompts")
    if given.get("retry") is not None:
        raise wrong("retry", "not for many prompts: an error's details name those that were not answered")
    return encode_options(given)


def request_params(given: ManyPrompt) -> dict[str, Any]:
    """One request of ``generate_many``.

    Raises:
        UsageError: see ``generate_params``; or an option is for all of them.
    """
    if isinstance(given, Mapping):
        options = dict(given)
        for name in ("model", "keep_alive", "priority", "timeout", "retry"):
            if options.get(name) is not None:
                raise wrong(name, "is for all prompts, not for one of them")
        prompt = options.pop("prompt", None)
        return generate_params(cast(Prompt | None, prompt), cast(GenerateOptions, options))
    if isinstance(given, Sequence) and not isinstance(given, str) and given and isinstance(given[0], Mapping):
        return generate_params(None, {"messages": cast(Sequence[Message], given)})
    return generate_params(cast(Prompt, given), {})


def encode_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they are on the wire, but for those that are not sent.

    Raises:
        UsageError: one cannot be sent.
    """
    params = {
        name: _ENCODERS[name](value) if name in _ENCODERS else value
        for name, value in given.items()
        if value is not None and name not in NOT_SENT
    }
    for name, value in params.items():
        if isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
            raise wrong(name, f"must be a number of 64 bits, not {shown(value)}")
    return params


def wrong(field: str, message: str) -> UsageError:
    """The error for a wrong argument; the message begins with its name, which ``details["field"]`` has too."""
    return UsageError(f"{field}: {message}", details={"field": field})


def shown(value: Any) -> str:
    """A value for a message, short however large it is."""
    import reprlib  # rarely needed

    try:
        return reprlib.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"one of {value.bit_length()} bits"


def chat_options(messages: str | Sequence[Message], options: Options) -> GenerateOptions:
    """What ``chat`` was given, for ``generate``."""
    turns: Sequence[Message] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    )
    return {**options, "messages": turns}


def refuse_stream(n: int, stream: bool) -> None:
    """A stream has one answer.

    Raises:
        UsageError: it was to have several.
    """
    if stream:
        raise wrong("n", f"a stream is one answer; open {n} streams, each with a seed of its own")


def choices(params: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Params of so many calls that answer the same; the first is what one call alone would be.

    With a seed each one has its own, the next number; without, the host draws one for each.

    Raises:
        UsageError: the count is no number from 1 to ``MAX_CHOICES``.
    """
    if type(count) is not int or not 1 <= count <= MAX_CHOICES:
        raise wrong("n", f"must be a whole number from 1 to {MAX_CHOICES}, not {shown(count)}")
    seed = params.get("seed")
    if type(seed) is not int:  # what is no seed at all the host refuses by name
        return [params] * count
    return [params, *({**params, "seed": (seed + i) % (1 << 64)} for i in range(1, count))]


def _check_names(options: Mapping[str, Any]) -> None:
    check_names(options, OPTIONS, _ARGUMENTS)


def check_names(options: Mapping[str, Any], known: frozenset[str], arguments: Sequence[str]) -> None:
    """Refuse options that there are none of.

    Args:
        options: what was given by name.
        known: those there are.
        arguments: what the method has besides, for the hint.

    Raises:
        UsageError: it names the first one, and the nearest right name.
    """
    for name in options:
        if not isinstance(name, str):
            raise wrong(shown(name), "there is no such parameter: names are texts")
        if name not in known:
            from difflib import get_close_matches  # rarely needed, and slow to import

            near = get_close_matches(name, {*known, *arguments} - {name}, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            hint = _ELSEWHERE.get(name, hint)
            raise wrong(name, f"there is no such parameter; {hint}")


def _encode_stop_token_ids(ids: Any) -> list[int]:
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise wrong("stop_token_ids", f"must be several token ids, not {shown(ids)}")
    return list(ids)


def _encode_logit_bias(bias: Any) -> list[list[Any]]:
    if not isinstance(bias, Mapping):
        raise wrong("logit_bias", f"must map token ids to numbers, not be {shown(bias)}")
    return [[token, number] for token, number in bias.items()]


def _encode_maps(name: str, values: Any, keys: str) -> list[dict[str, Any]]:
    try:
        if isinstance(values, str | bytes | Mapping):
            raise TypeError(f"not {type(values).__name__}")
        return [dict(value) for value in values]
    except (TypeError, ValueError) as error:
        raise wrong(name, f"must be a list of maps with {keys} ({error})") from error


def _encode_messages(messages: Any) -> list[dict[str, Any]]:
    return _encode_maps("messages", messages, "role and content")


def _encode_tools(tools: Any) -> list[dict[str, Any]]:
    if isinstance(tools, Sequence) and any(map(callable, tools)):
        from mlxbridge.guest.tools import tool_of  # functions are described by what few programs need

        tools = [
            tool_of(tool, f"tools[{i}]").schema if callable(tool) else tool for i, tool in enumerate(tools)
        ]
    return _encode_maps("tools", tools, "type and function, or functions")


def _encode_tool_choice(choice: Any) -> Any:
    """OpenAI's form of naming a tool as the host's; anything else as it is."""
    if isinstance(choice, Mapping) and choice.keys() == {"type", "function"} and choice["type"] == "function":
        return choice["function"]
    return choice


def _encode_format(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    from mlxbridge.guest.formats import encode_format  # as there

    return encode_format(given)


def _encode_stops(stop: Any) -> list[str]:
    if isinstance(stop, str):
        return [stop]
    if isinstance(stop, bytes | Mapping) or not isinstance(stop, Iterable):
        raise wrong("stop", f"must be a text or several, not {shown(stop)}")
    return list(stop)


def _encode_prompt(prompt: Prompt) -> str | bytes:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Iterable):
        found = type(prompt).__name__
        raise wrong("prompt", f"must be text or a list of token ids, not {found}; a chat goes into messages")
    return encode_token_ids("prompt", prompt)


def encode_token_ids(field: str, token_ids: Iterable[int]) -> bytes:
    """Token ids as they are sent: u32, little-endian.

    Raises:
        UsageError: they are none; it names the field.
    """
    try:
        ids = array("I", token_ids)
    except (TypeError, OverflowError, ValueError) as error:
        raise wrong(
            field, f"token ids must be integers from 0 to {MAX_TOKEN_ID}, not {shown(_wrong_one(token_ids))}"
        ) from error
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tobytes()


def _wrong_one(token_ids: Any) -> Any:
    """The first that is no token id, or all of them if that cannot be told any more."""
    given = token_ids if isinstance(token_ids, Sequence) else ()
    return next((one for one in given if type(one) is not int or not 0 <= one <= MAX_TOKEN_ID), token_ids)


_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "messages": _encode_messages,
    "response_format": _encode_format,
    "tools": _encode_tools,
    "tool_choice": _encode_tool_choice,
    "stop": _encode_stops,
    "stop_token_ids": _encode_stop_token_ids,
    "logit_bias": _encode_logit_bias,
}
"""For values that are not on the wire as they are given; the others need none."""


def deadline_ms(timeout: float | None) -> int | None:
    """A timeout in seconds as a CALL's ``deadline_ms``.

    Raises:
        UsageError: it is not a positive number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout < 1e9:
        raise wrong("timeout", f"must be a number of seconds above 0, or None, not {shown(timeout)}")
    return max(1, round(timeout * 1000))


def read_models(result: Mapping[str, Any]) -> list[ModelInfo]:
    """The models in the RESULT of ``models`` and ``status``."""
    models = result.get("models")
    return [read_model(entry) for entry in models if isinstance(entry, dict)] if type(models) is list else []


def read_model(entry: Mapping[str, Any]) -> ModelInfo:
    """One model's map."""
    known = {"name", "state", "source", "request_id"}
    return ModelInfo(
        name=str(entry.get("name", "")),
        state=str(entry.get("state", "")),
        source=str(entry.get("source", "")),
        details={key: value for key, value in entry.items() if key not in known},
    )


def read_memory(entry: Mapping[str, Any]) -> MemoryStatus:
    """The ``memory`` in the RESULT of ``status``."""

    def known(key: str) -> int | None:
        return int(read_number(entry, key)) if key in entry else None

    return MemoryStatus(
        total=known("total_bytes"),
        budget=known("budget_bytes"),
        reserved=int(read_number(entry, "reserved_bytes")),
        used=int(read_number(entry, "used_bytes")),
    )


def load_params(model: str, keep_alive: KeepAlive | None) -> dict[str, Any]:
    """Params of ``load``."""
    return {"model": model} if keep_alive is None else {"model": model, "keep_alive": keep_alive}


def read_freed(result: Mapping[str, Any]) -> int:
    """The RESULT of ``delete``: bytes."""
    return int(read_number(result, "freed_bytes"))


def read_status(result: Mapping[str, Any]) -> Status:
    """The RESULT of ``status``."""
    memory = result.get("memory")
    return Status(
        software=str(result.get("software", "")),
        chip=str(result.get("chip", "")),
        memory=read_memory(memory if isinstance(memory, dict) else {}),
        uptime_seconds=read_number(result, "uptime_ms") / 1000,
        connections=int(read_number(result, "connections")),
        calls=int(read_number(result, "calls")),
        models=read_models(result),
    )
