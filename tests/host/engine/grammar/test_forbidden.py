from __future__ import annotations

import json

import numpy as np
import pytest

from mlxbridge.host.engine.grammar.bits import Words
from mlxbridge.host.engine.grammar.compiler import Compiler
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.forbidden import Forbidden
from mlxbridge.host.engine.grammar.response_format import Source

TEXTS = ("</t>", "<|a|>", "<|ab|>")
TOKENS = [
    b"</",
    b"t",
    b"t>",
    b"t>x",
    b">",
    b"x",
    b"a</t>b",
    b"<|a",
    b"b",
    b"|>",
    b"<",
    b"/t>",
    b'"',
    b"",
    b"|",
]
TOKEN_OF = {name: token for token, name in enumerate(TOKENS)}
END = TOKEN_OF[b""]


def names_in(words: Words) -> set[bytes]:
    return {name for token, name in enumerate(TOKENS) if name and int(words[token // 32]) >> token % 32 & 1}


def withheld_after(*written: bytes) -> set[bytes]:
    forbidden = Forbidden(TEXTS, TOKENS)
    tail = b""
    for name in written:
        tail = forbidden.follow(tail, TOKEN_OF[name])
    words = np.full(1, 0xFFFF_FFFF, dtype=np.uint32)
    forbidden.withhold(words, tail)
    return set(filter(None, TOKENS)) - names_in(words)


@pytest.mark.parametrize(
    ("written", "withheld"),
    [
        ([], set()),
        ([b"x"], set()),
        ([b"</"], {b"t>", b"t>x"}),
        ([b"<"], {b"/t>"}),
        ([b"<", b"</"], {b"t>", b"t>x"}),
        ([b"</", b"t"], {b">"}),
        ([b"</", b"t", b"t"], set()),
        ([b"</", b"x", b"t"], set()),
        ([b"<|a"], {b"|>"}),
        ([b"<|a", b"b"], {b"|>"}),
        ([b"<|a", b"b", b"|"], {b">"}),
        ([b"<|a", b"b", b"b"], set()),
        ([b"<|a", b"<"], {b"/t>"}),
        ([b"</", b"t>"], set()),
        ([b"<|a", b"|>"], set()),
    ],
)
def test_what_would_complete_a_text_is_withheld(written: list[bytes], withheld: set[bytes]) -> None:
    assert withheld_after(*written) == withheld | {b"a</t>b"}


def test_what_must_come_may() -> None:
    forbidden = Forbidden(TEXTS, TOKENS)
    only = np.array([1 << TOKEN_OF[b">"]], dtype=np.uint32)
    words = only.copy()
    forbidden.withhold(words, b"</t")
    assert words == only


def constrain(text: str) -> Constraint:
    source = Source("grammar", "tool_choice", text, without=("</t>",))
    return Compiler(TOKENS).compile(source).constrain((END,), min_tokens=0)


def test_text_is_withheld_inside_and_not_where_the_grammar_has_it() -> None:
    constraint = constrain(f'start: %json {json.dumps({"type": "string"})} "</t>"')
    for name in (b'"', b"x", b"</"):
        constraint.look()
        constraint.take(TOKEN_OF[name])
    inside = names_in(constraint.look())
    assert b"t" in inside and not inside & {b"t>", b"t>x", b"a</t>b"}
    for name in (b"t", b'"', b"</", b"t"):
        assert name in names_in(constraint.look())
        constraint.take(TOKEN_OF[name])
    assert names_in(constraint.look()) == {b">"}
    answer = [TOKEN_OF[name] for name in (b'"', b"</", b"t")]
    constraint.begin(answer)
    assert b">" not in names_in(constraint.look()), "as where a row begins again"
