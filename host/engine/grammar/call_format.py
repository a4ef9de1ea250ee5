"""How a model writes tool calls, as rules in llguidance's Lark.

Only for kinds whose arguments are JSON: how the others write a value is no affair of JSON schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxbridge.host.engine.text.answer_format import parser_name


class CallFormat:
    """One model's.

    Attributes:
        start: the marker that begins calls.
        is_closed: there is a marker behind calls, too; if not, only the next ones or the end of the answer follow.
    """

    def __init__(self, kind: _Kind, tokenizer: Any) -> None:
        self.start: str = tokenizer.tool_call_start
        self.is_closed = bool(tokenizer.tool_call_end)
        self._kind = kind
        self._marks = _Marks(tokenizer)

    def can_name(self, name: str) -> bool:
        """Whether a call has a place for a tool's name."""
        return self._kind.names is None or self._kind.names.fullmatch(name) is not None

    def answer(self, names: Sequence[str], *, is_parallel: bool) -> Iterator[str]:
        """The rules of an answer that is calls alone; ``arguments_0``, of the first tool, and so on are still to be told.

        Args:
            names: of the tools, at least one.
            is_parallel: there may be several calls.
        """
        once = f"{self._marks.of(self.start)} calls"
        between = self._kind.between
        again = f" ({_json(between)} {once})*" if is_parallel and between is not None else ""
        yield f"start: {once}{again}"
        yield from self._kind.write(self._marks, names, is_parallel)

    def behind_start(self, names: Sequence[str], *, is_parallel: bool) -> Iterator[str]:
        """The rules of what stands behind ``start``, with the marker behind calls if there is one; see ``answer``."""
        yield "start: calls"
        yield from self._kind.write(self._marks, names, is_parallel)


def call_format(tokenizer: Any) -> CallFormat | None:
    """A model's; None if its calls are no JSON.

    Args:
        tokenizer: mlx_lm's ``TokenizerWrapper``.
    """
    kind = _KINDS.get(parser_name(tokenizer) or "")
    return None if kind is None else CallFormat(kind, tokenizer)


class _Marks:
    """Writes marks in Lark: as their tokens, special or not, where there are some."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def knows(self, mark: str) -> bool:
        """Whether a mark is a token."""
        return self._token(mark) is not None

    def of(self, mark: str) -> str:
        """One mark."""
        token = self._token(mark)
        return _json(mark) if token is None else f"<[{token}]>"

    def _token(self, mark: str) -> int | None:
        token: int | None = self._tokenizer.convert_tokens_to_ids(mark)
        is_known = token is not None and self._tokenizer.convert_ids_to_tokens(token) == mark
        return token if is_known else None


_Write = Callable[[_Marks, Sequence[str], bool], Iterator[str]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one of mlx_lm's parsers reads.

    Attributes:
        write: the rules of ``calls``: what stands behind the marker that begins them.
        between: what stands before the next such marker; None where calls that stand together begin with one alone.
        names: that it reads, where not all.
    """

    write: _Write
    between: str | None = None
    names: re.Pattern[str] | None = None


def _json_tools(marks: _Marks, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    yield f'calls: "\\n" ({_any(map(_object, range(len(names)), names))}) "\\n" {marks.of("</tool_call>")}'


def _mistral(marks: _Marks, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    if marks.knows("[ARGS]"):
        yield f"calls: call ({marks.of('[TOOL_CALLS]')} call)*" if is_parallel else "calls: call"
        middle = marks.of("[ARGS]")
        calls = (f"{_json(name)} {middle} arguments_{number}" for number, name in enumerate(names))
        yield f"call: {_any(calls)}"
    else:
        more = '(", " call)*' if is_parallel else ""
        yield f'calls: "[" call {more} "]"'
        yield f"call: {_any(map(_object, range(len(names)), names))}"


def _kimi_k2(marks: _Marks, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    yield f"calls: {'call+' if is_parallel else 'call'} {marks.of('<|tool_calls_section_end|>')}"
    middle = marks.of("<|tool_call_argument_begin|>")
    calls = (f"{_json(f'functions.{name}:')} NUMBER {middle} arguments_{i}" for i, name in enumerate(names))
    yield f"call: {marks.of('<|tool_call_begin|>')} ({_any(calls)}) {marks.of('<|tool_call_end|>')}"
    yield "NUMBER: /[0-9]{1,4}/"


# By mlx_lm's parser.
_KINDS: Mapping[str, _Kind] = {
    "json_tools": _Kind(_json_tools, between="\n"),
    "mistral": _Kind(_mistral, names=re.compile(r"[\w-]+")),
    "kimi_k2": _Kind(_kimi_k2),
}


def _object(number: int, name: str) -> str:
    """A call as one object."""
    begin = _json(f'{{"name": {_json(name)}, "arguments": ')
    return f'{begin} arguments_{number} "}}"'


def _any(choices: Iterator[str]) -> str:
    return " | ".join(choices)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
