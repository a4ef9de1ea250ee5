"""From what a caller wrote to a grammar that llguidance has compiled for a model's tokens.

Forcing is off: where only one text can follow, llguidance would look for it to its end (a million characters of
``a{1000000}``, at once) and ask the tokenizer how it would cut it. Here every step's mask has all tokens that may come,
and the model chooses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from mlxbridge.errors import InvalidArgument, Unsupported
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.forbidden import Forbidden
from mlxbridge.host.engine.grammar.free_text import FreeText
from mlxbridge.host.engine.grammar.json_schema import subschemas
from mlxbridge.host.engine.grammar.marker import Marker
from mlxbridge.host.engine.grammar.prelude import Prelude
from mlxbridge.host.engine.grammar.reasoning import Reasoning, ReasoningPrelude
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.refusal import invalid, unsupported

# Between the parts of JSON: else a model that does not know what to say writes spaces to its last token.
WHITESPACE = r"[ \t]|\r?\n[ \t]{0,64}"

_NO_FORCING = '%llguidance {"no_forcing": true}'
# llguidance's defaults but for what one step may take (a tenth of a second where few items are shared), and for the
# memory of one answer's states (about 2 KiB each).
_LIMITS = LLParserLimits(step_max_items=10_000, max_lexer_states=50_000, verbose_errors=False)
# Subschemas that are tried when one of them is to blame.
_MAX_SUSPECTS = 200

_LARK_ERROR = re.compile(r"(?:at )?(\d+)\((\d+)\): (.*?)(?:\n +\d+ \| .*)?$", re.DOTALL)
_IS_UNSUPPORTED = re.compile("supported|Unimplemented|Unknown format")
_REGEX_ERROR = re.compile(r"regex parse error:\n    (.*)\n    ( *)\^+\nerror: (.*)")


class Compiler:
    """Compiles for one tokenizer."""

    def __init__(self, spelling: Sequence[bytes], marks: Set[int] = frozenset()) -> None:
        """Prepare; takes half a second for 128,000 tokens.

        Args:
            spelling: by token id the bytes that a token stands for, none for those that end answers.
            marks: special tokens and the like, which are no text of what is held to something.
        """
        self._written = spelling
        self._spelling = spelling = [b"" if token in marks else name for token, name in enumerate(spelling)]
        self._num_words = -(-len(spelling) // 32)
        self._forbidden: dict[tuple[str, ...], Forbidden] = {}
        self._markers: dict[str, Marker] = {}
        # The end of an answer is no token of the model's here but one more bit, in a word of its own: it stands for all
        # tokens that end a call's answer.
        end = 32 * self._num_words
        tokens = [*spelling, *(end - len(spelling)) * [b""], b""]
        self._tokenizer = LLTokenizer(TokenizerWrapper(_Spelling(tokens, end)))

    def compile(self, source: Source) -> Grammar:
        """Compile, and see if an answer can begin.

        Raises:
            InvalidArgument, Unsupported: it cannot be compiled, or is too complex, or allows no answer;
                ``details["field"]`` has the path of the schema to blame; ``line`` and ``column`` in a grammar and
                ``offset`` in a regex are given where they are known.
        """
        try:
            return self._compile(source)
        except (InvalidArgument, Unsupported):
            for schema in source.schemas:
                self._compile(schema)
            raise

    def _compile(self, source: Source) -> Grammar:
        matcher = LLMatcher(self._tokenizer, _grammar_of(source), log_level=0, limits=_LIMITS)
        if message := matcher.get_error():
            raise _refusal(source, message)
        if warnings := matcher.get_grammar_warnings():
            raise _refusal(source, warnings[0])
        first = Constraint(matcher, num_words=self._num_words, end_ids=(), are_ends_text=False, min_tokens=0)
        first.look()
        if first.error is not None:
            raise invalid(source.field, f"allows no answer: {first.error}")
        if first.has_ended:
            raise invalid(source.field, "allows no answer but the empty one")
        return Grammar(
            matcher,
            self._spelling,
            self._num_words,
            source=source,
            call_start=self._marker(source.behind) if source.behind else None,
            find_marker=self._marker,
            forbidden=self._forbid(source.without) if source.without else None,
        )

    def _forbid(self, texts: tuple[str, ...]) -> Forbidden:
        if texts not in self._forbidden:
            self._forbidden[texts] = Forbidden(texts, self._spelling)
        return self._forbidden[texts]

    def _marker(self, text: str) -> Marker:
        if text not in self._markers:
            self._markers[text] = Marker(text, self._written)
        return self._markers[text]


class Grammar:
    """A compiled grammar, for any number of answers."""

    def __init__(
        self,
        matcher: LLMatcher,
        spelling: Sequence[bytes],
        num_words: int,
        *,
        source: Source,
        call_start: Marker | None,
        find_marker: Callable[[str], Marker],
        forbidden: Forbidden | None,
    ) -> None:
        self._matcher = matcher
        self._source = source
        self._call_start = call_start
        self._find_marker = find_marker
        self._forbidden = forbidden
        self._spelling = spelling
        self._num_words = num_words

    def constrain(
        self, end_ids: Sequence[int], *, min_tokens: int, reasoning: Reasoning | None = None
    ) -> Constraint:
        """What keeps one answer to it.

        Args:
            end_ids: tokens that end the answer; they can be drawn where the grammar allows the end, and nowhere else.
            min_tokens: before so many they cannot be drawn at all.
            reasoning: what comes, or may come, before that which is kept to it, if that does not come of its own accord.
        """
        prelude: Prelude | None = None
        if self._call_start is not None:
            prelude = FreeText(self._call_start)
        elif reasoning is not None:
            end = self._find_marker(reasoning.end)
            prelude = ReasoningPrelude(reasoning, end, end_ids, self._num_words)
        return Constraint(
            self._matcher,
            num_words=self._num_words,
            end_ids=end_ids,
            are_ends_text=any(self._spelling[token] for token in end_ids),
            min_tokens=min_tokens,
            prelude=prelude,
            recurs=self._source.recurs,
            forbidden=self._forbidden,
            param=self._source.param,
        )


class _Spelling:
    """What ``TokenizerWrapper`` asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], end: int) -> None:
        self.tokens = tokens
        self.eos_token_id = end

    def __call__(self, text: Any) -> list[int]:
        raise NotImplementedError("forcing is off: no text is ever cut into tokens")


def _grammar_of(source: Source) -> str:
    if source.kind == "json_schema":
        return _schema_grammar(json.loads(source.text))
    if source.kind == "regex":
        (part,) = json.loads(LLMatcher.grammar_from_regex(source.text))["grammars"]
        return _lark_grammar(part["lark_grammar"])
    if source.kind == "choice":
        texts = " | ".join(f"/{_literal(text)}/" for text in json.loads(source.text))
        return _lark_grammar(f"start: CHOICE\nCHOICE: {texts}")
    return _lark_grammar(source.text)


def _lark_grammar(text: str) -> str:
    # Behind it: lines and columns of errors stay those of the caller's text.
    return json.dumps({"grammars": [{"lark_grammar": f"{text}\n{_NO_FORCING}"}]})


def _schema_grammar(schema: Mapping[str, Any]) -> str:
    options = {"whitespace_pattern": WHITESPACE}
    answer = {"name": "answer", "json_schema": {**schema, "x-guidance": options}}
    return json.dumps({"grammars": [{"lark_grammar": f"{_NO_FORCING}\nstart: @answer"}, answer]})


def _literal(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):X}}}" for char in text)


def _refusal(source: Source, message: str) -> InvalidArgument | Unsupported:
    if source.kind == "json_schema":
        refuse = unsupported if _IS_UNSUPPORTED.search(message) else invalid
        return refuse(_place(source, message), f"cannot be kept to: {_brief(message)}")
    found = _LARK_ERROR.match(message)
    if source.kind == "grammar" and found is not None:
        line, column = int(found[1]), int(found[2])
        where = f"line {line}, column {column}: {_brief(found[3])}"
        return invalid(source.field, where, line=line, column=column)
    if (found := _REGEX_ERROR.search(message)) is not None:
        offset = len(found[2])
        return invalid(source.field, f"at {offset}: {found[3]}", offset=offset)
    return invalid(source.field, f"cannot be compiled: {_brief(found[3] if found else message)}")


def _brief(message: str) -> str:
    """llguidance's message in one line, a regex's with where it is wrong."""
    if (found := _REGEX_ERROR.search(message)) is not None:
        return f"{found[3]}, at {len(found[2])} of the regex {found[1]}"
    # An option of llguidance's that it may go on to name is none of ours.
    return message.partition("\n")[0].partition(". Enable")[0]


def _place(source: Source, message: str) -> str:
    """The path of the innermost subschema that by itself is refused in the same words."""
    schema = json.loads(source.text)
    shared = {key: schema[key] for key in ("$defs", "definitions", "$schema") if key in schema}
    suspects = list(subschemas(source.field, schema))[:_MAX_SUSPECTS]
    for path, part in suspects[::-1]:
        _, found = LLMatcher.validate_grammar_with_warnings(
            _schema_grammar({**shared, **part}), limits=_LIMITS
        )
        if found == [message]:
            return path
    return source.field
