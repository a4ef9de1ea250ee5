"""``response_format`` as Python types: what answers have to keep to, and the objects that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_origin

from mlxbridge.errors import UnreadableAnswer
from mlxbridge.guest.requests import shown, wrong
from mlxbridge.guest.schemas import schema_of
from mlxbridge.guest.values import read_value
from mlxbridge.types import Generation, Outcome, Usage

T = TypeVar("T")
_OF_JSON = ("json_schema", "json_object")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedGeneration(Generation, Generic[T]):
    """An answer that was to keep to a ``response_format``.

    Attributes:
        response_format: what that was.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Literal
        >>> @dataclass
        ... class Answer:
        ...     capital: Literal["Berlin", "Paris", "Rome"]
        >>> client.chat("What is the capital of France?", response_format=Answer).parsed
        Answer(capital='Paris')
    """

    response_format: Any = field(repr=False)

    @property
    def parsed(self) -> T:
        """The object that the answer is: of the type that ``response_format`` was; of a map that names a JSON schema what
        ``json.loads`` gives, and of one with a regex, a grammar or choices the text.

        Raises:
            UnreadableAnswer: it was cut off, by ``max_tokens`` as a rule, or the type takes no such values; ``text`` has what
                there is.
        """
        return cast(T, read_answer(self.response_format, self.text, self.usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedOutcome(Outcome):
    """An outcome of ``generate_many`` whose answer was to keep to a ``response_format``, which it has."""

    response_format: Any = field(repr=False)

    @property
    def parsed(self) -> Any:
        """See ``TypedGeneration.parsed``.

        Raises:
            UnreadableAnswer: as there.
            BridgeError: the outcome's own ``error``.
        """
        if self.usage is None:
            raise self.error or UnreadableAnswer("there is no answer")
        return read_answer(self.response_format, self.text, self.usage)


def encode_format(given: Any) -> Mapping[str, Any]:
    """A ``response_format`` as it is on the wire.

    Raises:
        UsageError: JSON has nothing like the type; the message says where.
    """
    if isinstance(given, Mapping):
        return given
    if isinstance(given, str):
        raise wrong(
            "response_format", f"must be a Python type, or a map with type and more, not {shown(given)}"
        )
    if (choices := _choices(given)) is not None:
        return {"type": "choice", "choices": list(choices)}
    return {"type": "json_schema", "schema": schema_of(given, "response_format")}


def typed(generation: Generation, response_format: Any) -> Generation:
    """The answer, with what it was to keep to."""
    return TypedGeneration(**_values(generation), response_format=response_format)


def typed_outcome(outcome: Outcome, response_format: Any) -> Outcome:
    """As ``typed``."""
    if response_format is None:
        return outcome
    return TypedOutcome(**_values(outcome), response_format=response_format)


def _values(answer: Generation | Outcome) -> dict[str, Any]:
    return {one.name: getattr(answer, one.name) for one in fields(answer)}


def read_answer(response_format: Any, text: str, usage: Usage) -> Any:
    """See ``TypedGeneration.parsed``."""
    if usage.finish_reason == "length":
        raise UnreadableAnswer(
            f"the answer was cut off after {usage.completion_tokens} tokens: give a larger max_tokens; "
            "text has what came",
            text=text,
        )
    if usage.stop_string is not None:  # what is left may look whole: 12 of 123
        raise UnreadableAnswer(
            f"the answer was cut off by the stop text {shown(usage.stop_string)}: leave that out; text has what came",
            text=text,
        )
    if isinstance(response_format, Mapping) and response_format.get("type") not in _OF_JSON:
        return text
    if (choices := _choices(response_format)) is not None and text in choices:
        return choices[text]
    kind = Any if isinstance(response_format, Mapping) else response_format
    try:
        return read_value(kind, json.loads(text), "answer")
    except (ValueError, RecursionError) as error:  # the latter of what is nested too deep for Python
        raise UnreadableAnswer(f"{error}; text has what came", text=text) from error


def _choices(kind: Any) -> dict[str, Any] | None:
    """What each text stands for, of a type that is nothing but some texts."""
    if get_origin(kind) is Literal:
        found: dict[Any, Any] = {value: value for value in get_args(kind)}
    elif isinstance(kind, type) and issubclass(kind, Enum):
        found = {member.value: member for member in kind}
    else:
        return None
    return found if found and all(isinstance(value, str) for value in found) else None
