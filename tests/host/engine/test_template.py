"""What is read from a chat template's source."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.text.template import Template, template_of
from tests.host.engine.families import HERMES


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("{{ messages[0].content }}", ["messages"]),
        ("{% if a is defined and not b %}{{ c }}{% endif %}", ["a", "b", "c"]),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}", ["thinking"]),
        ("{% set a = 1 %}{{ a }}{% for b in c %}{{ b }}{% break %}{% endfor %}", ["c"]),
        ("{% macro m(x) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}", ["y"]),
        ("{% generation %}{{ a }}{% endgeneration %}", ["a"]),
        ("{{ raise_exception(a) }}{{ strftime_now('%d') }}{% for i in range(3) %}{{ i }}{% endfor %}", ["a"]),
        ("tools are {# reasoning #} text", []),
    ],
)
def test_variables_are_those_that_make_a_difference(source: str, variables: list[str]) -> None:
    template = Template(source)
    assert template.variables == variables
    assert all(map(template.uses, variables)) and not template.uses("tools")


@pytest.mark.parametrize("source", [None, "{% if %}"])
def test_of_what_cannot_be_read_everything_may_be_tried(source: str | None) -> None:
    template = Template(source)
    assert template.uses("anything") and template.variables == []
    assert template.thinking_switch == "enable_thinking"


def test_switch_is_the_one_that_the_template_has() -> None:
    assert Template("{{ enable_thinking }}").thinking_switch == "enable_thinking"
    assert Template("{{ thinking }}").thinking_switch == "thinking"
    assert Template("{{ tools }}").thinking_switch is None


def test_words_are_mentioned_anywhere() -> None:
    template = Template("{% if m['tool_calls'] %}{% endif %}")
    assert template.mentions("tools", "tool_calls") and not template.mentions("reasoning")


def test_template_for_tools_is_the_one_that_counts(tmp_path: Path, loaded: LoadedModel) -> None:
    tokenizer = HERMES.tokenizer(tmp_path / "hermes")
    tokenizer.chat_template = {"default": "{{ a }}", "tool_use": "{{ b }}"}
    assert template_of(tokenizer, has_tools=False).uses("a")
    assert template_of(tokenizer, has_tools=True).uses("b")
    tokenizer.chat_template = {"other": "{{ c }}"}
    assert template_of(tokenizer, has_tools=True).source is None
    tokenizer._chat_template = lambda *args, **kwargs: ""
    tokenizer.chat_template = "{{ d }}"
    assert template_of(tokenizer, has_tools=False).source is None
    assert template_of(loaded.tokenizer, has_tools=True).uses("messages")
