"""What a chat template uses, read from its source: what it does not would go nowhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

# What Hugging Face hands to every template beside its variables.
_FUNCTIONS = {"raise_exception", "strftime_now"}
# In the order in which they are looked for; mlx_lm says the first to templates that are code.
_THINKING_SWITCHES = ("enable_thinking", "thinking")


class _Generation(Extension):
    """Hugging Face's ``{% generation %}``, which marks what an assistant said and changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Template:
    """A model's chat template, or code in its place, of which nothing is known beforehand.

    Attributes:
        source: Jinja; None for code.
    """

    def __init__(self, source: str | None) -> None:
        self.source = source

    def uses(self, variable: str) -> bool:
        """Whether a variable makes a difference, as far as can be seen."""
        known = self._variables
        return known is None or variable in known

    def mentions(self, *words: str) -> bool:
        """Whether one of the words occurs, as far as can be seen."""
        return self.source is None or any(word in self.source for word in words)

    @property
    def variables(self) -> list[str]:
        """What it uses, for a message."""
        return sorted(self._variables or ())

    @property
    def thinking_switch(self) -> str | None:
        """The variable that says whether the model is to think; None if it has none."""
        return next(filter(self.uses, _THINKING_SWITCHES), None)

    @property
    def _variables(self) -> frozenset[str] | None:
        return None if self.source is None else _variables_in(self.source)


def template_of(tokenizer: Any, *, has_tools: bool) -> Template:
    """The template that a chat goes through: some models have another one for tools.

    Args:
        tokenizer: mlx_lm's ``TokenizerWrapper``, which has a template.
        has_tools: the chat has tools.
    """
    if tokenizer._chat_template is not None or tokenizer.chat_template is None:
        return Template(None)
    try:
        return Template(tokenizer.get_chat_template(tools=[] if has_tools else None))
    except ValueError:  # several templates, none of them for this; rendering will say so
        return Template(None)


def check_template(source: str) -> None:
    """Refuse what is no template, before a guest's messages meet it.

    Raises:
        ValueError: with the line, and what is wrong there.
    """
    try:
        _environment().parse(source)
    except TemplateSyntaxError as exc:
        raise ValueError(f"line {exc.lineno}: {exc.message}") from exc


def _environment() -> Environment:
    return Environment(extensions=["jinja2.ext.loopcontrols", _Generation])


@lru_cache(maxsize=16)
def _variables_in(source: str) -> frozenset[str] | None:
    environment = _environment()
    try:
        used = meta.find_undeclared_variables(environment.parse(source))
        return frozenset(used - environment.globals.keys() - _FUNCTIONS)
    except TemplateError:  # it can only be tried
        return None
