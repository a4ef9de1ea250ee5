"""Bodies as what the host is asked, and what is refused of them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlxbridge.guest.gateway.ollama.requests import read_chat, read_embed, read_embeddings, read_generate
from mlxbridge.guest.gateway.problem import Problem

HELLO = [{"role": "user", "content": "Hello"}]


def test_prompt_is_a_chat_with_its_system() -> None:
    question = read_generate(
        {
            "model": "demo",
            "prompt": "Hello",
            "system": "Be brief.",
            "suffix": "",
            "template": "",
            "images": [],
        }
    )
    assert question.options["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]
    assert (question.prompt, question.is_stream, question.is_empty) == (None, True, False)


def test_raw_prompt_is_raw() -> None:
    question = read_generate(
        {"model": "demo", "prompt": "The ", "raw": True, "stream": False, "think": False}
    )
    assert (question.prompt, question.is_stream, question.think) == ("The ", False, None)
    assert "messages" not in question.options


def test_nothing_to_answer_is_told() -> None:
    assert read_generate({"model": "demo"}).is_empty
    assert read_generate({"model": "demo", "raw": True, "prompt": ""}).is_empty
    assert read_chat({"model": "demo", "messages": [], "keep_alive": "0s"}).keep_alive == 0
    assert read_chat({"name": "demo"}).model == "demo"


def test_formats_and_logprobs_are_the_hosts() -> None:
    schema = {"type": "object"}
    question = read_chat(
        {
            "model": "demo",
            "messages": HELLO,
            "format": schema,
            "logprobs": True,
            "top_logprobs": 3,
            "think": "low",
        }
    )
    assert question.options["response_format"] == {"type": "json_schema", "schema": schema}
    assert (question.options["logprobs"], question.think) == (3, "low")
    assert read_generate({"model": "demo", "format": "json"}).options["response_format"] == {
        "type": "json_object"
    }
    assert "response_format" not in read_generate({"model": "demo", "format": ""}).options


def test_calls_and_their_results_are_the_hosts() -> None:
    call = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
    said = {"role": "assistant", "thinking": "Add them.", "tool_calls": [call]}
    result = {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "call_1"}
    question = read_chat(
        {"model": "demo", "messages": [*HELLO, said, result], "tools": [{"function": {"name": "add"}}]}
    )
    assert question.options["messages"] == [
        *HELLO,
        {
            "role": "assistant",
            "content": "",
            "reasoning": "Add them.",
            "tool_calls": [
                {"type": "function", "id": "call_1", "function": {"name": "add", "arguments": {"a": 1}}}
            ],
        },
        {"role": "tool", "content": "3", "name": "add", "tool_call_id": "call_1"},
    ]
    assert question.options["tools"] == [{"type": "function", "function": {"name": "add"}}]


def test_inputs_are_texts() -> None:
    one = read_embed({"model": "finder", "input": "cat", "dimensions": 8, "options": {"num_ctx": 40}})
    assert (one.texts, one.options) == (["cat"], {"truncate": True, "dimensions": 8})
    assert read_embed({"model": "finder", "input": ["", "cat"], "truncate": False}).texts == ["", "cat"]
    assert read_embed({"model": "finder", "input": ""}).texts == []
    assert read_embeddings({"model": "finder", "prompt": "cat"}).options == {"normalize": None}


def called(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "f"}, **members}]}


@pytest.mark.parametrize(
    ("read", "body", "field"),
    [
        (read_generate, {"prompt": "x"}, "model"),
        (read_generate, {"model": 5}, "model"),
        (read_generate, {"model": "demo", "name": "other", "prompt": "x"}, "name"),
        (read_generate, {"model": "demo", "prompt": ["x"]}, "prompt"),
        (read_generate, {"model": "demo", "prompt": "x", "suffix": "y"}, "suffix"),
        (read_generate, {"model": "demo", "prompt": "x", "template": "{{ .Prompt }}"}, "template"),
        (read_generate, {"model": "demo", "prompt": "x", "images": ["aGk="]}, "images"),
        (read_generate, {"model": "demo", "prompt": "x", "width": 512}, "width"),
        (read_generate, {"model": "demo", "prompt": "x", "raw": True, "system": "y"}, "system"),
        (read_generate, {"model": "demo", "prompt": "x", "raw": True, "context": [1]}, "context"),
        (read_generate, {"model": "demo", "prompt": "x", "raw": True, "think": True}, "think"),
        (read_generate, {"model": "demo", "prompt": "x", "context": [1, "a"]}, "context"),
        (read_generate, {"model": "demo", "prompt": "x", "context": "abc"}, "context"),
        (read_generate, {"model": "demo", "prompt": "x", "format": "yaml"}, "format"),
        (read_generate, {"model": "demo", "prompt": "x", "stream": "no"}, "stream"),
        (read_generate, {"model": "demo", "prompt": "x", "truncate": True}, "truncate"),
        (read_generate, {"model": "demo", "prompt": "x", "options": []}, "options"),
        (read_generate, {"model": "demo", "prompt": "x", "temperature": 0.5}, "temperature"),
        (read_chat, {"model": "demo", "messages": "x"}, "messages"),
        (read_chat, {"model": "demo", "messages": ["x"]}, "messages[0]"),
        (read_chat, {"model": "demo", "messages": [{**HELLO[0], "images": ["aGk="]}]}, "messages[0].images"),
        (read_chat, {"model": "demo", "messages": [{**HELLO[0], "colour": "red"}]}, "messages[0].colour"),
        (
            read_chat,
            {"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"name": "f"}]}]},
            "messages[0].tool_calls[0]",
        ),
        (read_chat, {"model": "demo", "messages": [called(type="custom")]}, "messages[0].tool_calls[0].type"),
        (read_chat, {"model": "demo", "messages": [called(index="1")]}, "messages[0].tool_calls[0].index"),
        (read_chat, {"model": "demo", "messages": HELLO, "think": "much"}, "think"),
        (read_chat, {"model": "demo", "messages": HELLO, "top_logprobs": 3}, "top_logprobs"),
        (read_chat, {"model": "demo", "messages": HELLO, "tools": ["f"]}, "tools[0]"),
        (read_chat, {"model": "demo", "tools": [{"function": {"name": "f"}, "kind": 1}]}, "tools[0].kind"),
        (read_chat, {"model": "demo", "tools": [{"type": "mcp", "function": {}}]}, "tools[0].type"),
        (read_chat, {"model": "demo", "tools": [{"function": {"returns": {}}}]}, "tools[0].function.returns"),
        (read_embed, {"model": "finder", "input": [1]}, "input"),
        (read_embed, {"model": "finder", "input": {"a": 1}}, "input"),
        (read_embed, {"model": "finder", "input": "cat", "options": {"seed": 1}}, "options.seed"),
        (read_embeddings, {"model": "finder", "prompt": "cat", "dimensions": 8}, "dimensions"),
    ],
)
def test_field_that_cannot_be_honoured_is_named(
    read: Callable[[dict[str, Any]], Any], body: dict[str, Any], field: str
) -> None:
    with pytest.raises(Problem) as refused:
        read(body)
    assert (refused.value.status, refused.value.field) == (400, field)
    assert refused.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize("given", [False, 0, {}, [1]])
def test_input_that_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(Problem, match="input: must be a text or a list of texts"):
        read_embed({"model": "finder", "input": given})


@pytest.mark.parametrize("given", [None, "", []])
def test_nothing_to_embed_is_told(given: Any) -> None:
    assert read_embed({"model": "finder", "input": given}).texts == []


@pytest.mark.parametrize("given", [False, 0, 1.5])
def test_content_that_is_no_text_is_left_to_the_host_to_refuse(given: Any) -> None:
    question = read_chat({"model": "demo", "messages": [{"role": "user", "content": given}]})
    assert question.options["messages"] == [{"role": "user", "content": given}]
