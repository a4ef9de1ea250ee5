from __future__ import annotations

import pytest

from mlxbridge.errors import Unsupported
from mlxbridge.host.engine.grammar.lark import check_lark, place


@pytest.mark.parametrize(
    "text",
    [
        'start: "a" ["b"] /[<x>]/ // <|end|>\n# %llguidance\n',
        'start: tag\ntag[lazy]: /.*<b>/\nother[suffix="</b>"]: /.*/',
        'start: "x[temperature=1]: " "%llguidance" "<[3]>"',
        'start: %json {"type": "object", "properties": {"<|x|>": {"type": "string"}}} "z"',
        "%ignore /[ ]+/\nstart: a{1,3}\na: /x/i",
    ],
)
def test_grammar_that_can_be_honoured_passes(text: str) -> None:
    check_lark("g", text)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("start: x\nx[temperature=0.5]: /a/", 2, 3),
        ('start: x\n  !x [lazy, stop=""]: /a/', 2, 7),
        ('start: "a" x\n\nx[capture]: "b"', 3, 3),
        ('start: "a"\n  | <|python_tag|> "b"', 2, 5),
        ("start: <[0-99]>", 1, 8),
        ('%llguidance {"no_forcing": false}\nstart: "a"', 1, 1),
        ('start: "a" %json {"uniqueItems": true}', 1, 18),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(Unsupported) as caught:
        check_lark("g", text)
    details = caught.value.details
    assert (details["line"], details["column"]) == (line, column)
    assert details["field"].startswith("g")


def test_schema_inside_a_grammar_is_refused_by_its_path() -> None:
    with pytest.raises(Unsupported) as caught:
        check_lark("g", 'start: "a"\n b\nb: %json {\n"properties": {"k": {"not": {}}}}')
    assert caught.value.details["field"] == "g (%json at line 3).properties.k.not"


def test_place_counts_from_one() -> None:
    assert [place("ab\nc", offset) for offset in (0, 1, 3)] == [(1, 1), (1, 2), (2, 1)]
