"""What of llguidance's Lark dialect a grammar may use; the rest is refused with its line and column.

Refused is what would take effect outside the mask (a temperature, captures), what hides text that has been sent
already (``stop``), and tokens by name or number: special ones are no text, and which others there are is the model's
affair. See llguidance's docs/syntax.md.
"""

from __future__ import annotations

import json
import re

from mlxbridge.errors import BridgeError, Unsupported
from mlxbridge.host.engine.grammar.json_schema import check_schema
from mlxbridge.host.engine.refusal import unsupported

ATTRIBUTES = ("lazy", "suffix")

# Comments, texts and regexes: what stands in them is no syntax.
_OPAQUE = re.compile(r'//[^\n]*|\#[^\n]*|"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/')
_RULE_HEAD = re.compile(r"^[ \t]*[!?]*[\w-]+(?:\.-?\d+)?\s*\[([^\]]*)\]\s*:", re.MULTILINE)
_TOKEN = re.compile(r"<[^<>\s]+>")
_DIRECTIVE = re.compile(r"%(llguidance|json)\b")
_DECODER = json.JSONDecoder()


def check_lark(field: str, text: str) -> None:
    """Check for what cannot be honoured; mistakes are for the compiler to find.

    Raises:
        InvalidArgument, Unsupported: ``details["line"]`` and ``details["column"]`` say where, from 1; of a schema in
            the grammar ``details["field"]`` has the path.
    """
    bare = _OPAQUE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    for head in _RULE_HEAD.finditer(bare):
        for attribute in head.group(1).split(","):
            name = attribute.partition("=")[0].strip()
            if name and name not in ATTRIBUTES:
                raise _refused(field, text, head.start(1), f"the attribute {name!r} is not supported")
    if (token := _TOKEN.search(bare)) is not None:
        raise _refused(
            field, text, token.start(), f"{token.group()[:40]} is not supported: an answer is text alone"
        )
    for directive in _DIRECTIVE.finditer(bare):
        if directive.group(1) == "llguidance":
            raise _refused(field, text, directive.start(), "%llguidance is not supported")
        _check_json(field, text, directive.end())


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _check_json(field: str, text: str, offset: int) -> None:
    begin = offset + len(text[offset:]) - len(text[offset:].lstrip())
    try:
        schema, _ = _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return  # the compiler says where
    line, column = place(text, begin)
    try:
        check_schema(f"{field} (%json at line {line})", schema)
    except BridgeError as error:
        error.details.update(line=line, column=column)
        raise


def _refused(field: str, text: str, offset: int, message: str) -> Unsupported:
    line, column = place(text, offset)
    return unsupported(field, f"line {line}, column {column}: {message}", line=line, column=column)
