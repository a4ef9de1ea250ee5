from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, ContextTooLong, InvalidArgument, Unsupported
from mlxbridge.host.engine.interface import DEFAULT_MAX_TOKENS, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.text.prompt import encode_prompt, token_limit
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


def encode(loaded: LoadedModel, **request: Any) -> list[int]:
    return encode_prompt(loaded, GenerateRequest(**request))


def refusal(loaded: LoadedModel, **request: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        encode(loaded, **request)
    return caught.value


def test_text_gets_one_bos(loaded: LoadedModel) -> None:
    bos = loaded.tokenizer.bos_token_id
    assert encode(loaded, prompt="the fox") == encode(loaded, prompt="<s>the fox")
    assert encode(loaded, prompt="the fox").count(bos) == 1


def test_messages_go_through_the_template(loaded: LoadedModel) -> None:
    ids = encode(loaded, messages=[{"role": "user", "content": "hi"}])
    assert loaded.tokenizer.decode(ids) == "<s>user: hi</s><s>assistant:"


def test_ids_are_kept(loaded: LoadedModel) -> None:
    assert encode(loaded, prompt=[5, 0, 383]) == [5, 0, 383]


@pytest.mark.parametrize("prompt", ["", [], "\ud800", [1, -1], [384], [1.0], [True], b"x", 7, {"a": 1}])
def test_prompt_wrong_is_refused(loaded: LoadedModel, prompt: Any) -> None:
    error = refusal(loaded, prompt=prompt)
    assert isinstance(error, InvalidArgument)
    assert error.details["field"].startswith("prompt")


def test_prompt_outside_the_vocabulary_names_the_place(loaded: LoadedModel) -> None:
    error = refusal(loaded, prompt=[1, 2, 9000])
    assert error.details["field"] == "prompt[2]"
    assert "9000" in error.message and "383" in error.message


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ("hi", "messages"),
        ({"role": "user"}, "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "user", "content": "a"}, {"role": "user"}], "messages[1].content"),
        ([{"role": 3, "content": "a"}], "messages[0].role"),
        ([{"role": "wizard", "content": "a"}], "messages"),
    ],
)
def test_messages_wrong_names_the_place(loaded: LoadedModel, messages: Any, field: str) -> None:
    error = refusal(loaded, messages=messages)
    assert isinstance(error, InvalidArgument)
    assert error.details == {"field": field}


def test_messages_refused_by_the_template_say_why(loaded: LoadedModel) -> None:
    assert "unknown role wizard" in refusal(loaded, messages=[{"role": "wizard", "content": ""}]).message


def test_message_with_another_key_is_unsupported(loaded: LoadedModel) -> None:
    message: Mapping[str, Any] = {"role": "user", "content": "a", "name": "Ann"}
    error = refusal(loaded, messages=[message])
    assert isinstance(error, Unsupported)
    assert error.details == {"field": "messages[0].name"}


TOOL_TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}:{% if m.content %} {{ m.content }}{% endif %}"
    "{% for call in m.tool_calls %} {{ call.function.name }}({{ call.function.arguments.items() | list }})"
    "{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
TOOL_CALL = {"function": {"name": "add", "arguments": '{"a": 27, "b": 15}'}}
TOOL_CHAT = [
    {"role": "user", "content": [{"type": "text", "text": "27 "}, {"type": "text", "text": "+ 15"}]},
    {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
    {"role": "tool", "content": "42"},
]


@pytest.fixture(scope="module")
def knows_tools(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("tools")
    save_model(folder)
    save_tokenizer(byte_level_tokenizer(), folder)
    (folder / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    return load(folder, "tools")


def test_parts_tool_calls_and_their_results_go_through_the_template(knows_tools: LoadedModel) -> None:
    assert knows_tools.tokenizer.decode(encode(knows_tools, messages=TOOL_CHAT)) == (
        "<s>user: 27 + 15</s><s>assistant: add([('a', 27), ('b', 15)])</s><s>tool: 42</s><s>assistant:"
    )


def test_tool_calls_that_the_template_would_leave_out_are_refused(loaded: LoadedModel) -> None:
    error = refusal(loaded, messages=TOOL_CHAT[:2])
    assert isinstance(error, Unsupported)
    assert error.details == {"field": "messages[1].tool_calls"}
    assert "the chat template of tiny has no place for them" in error.message


def test_tool_calls_that_cannot_fit_are_refused_unread(
    knows_tools: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knows_tools.context_length is not None
    most = knows_tools.context_length * knows_tools.longest_token
    call = {"function": {"name": "add", "arguments": {"a": "a" * most}}}

    def read(*args: Any, **kwargs: Any) -> list[int]:
        raise AssertionError("the tokenizer was given the text")

    monkeypatch.setattr(type(knows_tools.tokenizer._tokenizer), "_encode_plus", read)
    error = refusal(knows_tools, messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert isinstance(error, ContextTooLong)


def test_messages_without_a_template_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "plain")
    save_tokenizer(byte_level_tokenizer(), tmp_path / "plain", chat=False)
    error = refusal(load(tmp_path / "plain", "plain"), messages=[{"role": "user", "content": "a"}])
    assert error.details == {"field": "messages"}
    assert "plain has no chat template" in error.message


def test_limit_without_a_number_is_the_room(loaded: LoadedModel) -> None:
    assert token_limit(loaded, 500, None) == 12
    assert token_limit(replace(loaded, context_length=100_000), 500, None) == DEFAULT_MAX_TOKENS
    assert token_limit(replace(loaded, context_length=None), 500, None) == DEFAULT_MAX_TOKENS
    assert token_limit(replace(loaded, context_length=None), 500, 10**6) == 10**6


def test_limit_keeps_a_number_that_fits(loaded: LoadedModel) -> None:
    assert token_limit(loaded, 500, 12) == 12
    assert token_limit(loaded, 511, 1) == 1


@pytest.mark.parametrize(("num_prompt", "max_tokens"), [(512, None), (600, 1), (500, 13)])
def test_limit_that_does_not_fit_gives_the_numbers(
    loaded: LoadedModel, num_prompt: int, max_tokens: int | None
) -> None:
    with pytest.raises(ContextTooLong) as caught:
        token_limit(loaded, num_prompt, max_tokens)
    error = caught.value
    assert error.details == {"prompt_tokens": num_prompt, "max_tokens": max_tokens, "context_length": 512}
    assert str(num_prompt) in error.message and "512" in error.message


@pytest.mark.parametrize(
    "request_of",
    [lambda text: {"prompt": text}, lambda text: {"messages": [{"role": "user", "content": text}]}],
)
def test_text_that_cannot_fit_is_refused_unread(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, request_of: Callable[[str], dict[str, Any]]
) -> None:
    assert loaded.context_length is not None
    most = loaded.context_length * loaded.longest_token
    encode(loaded, **request_of("a" * (most - 100)))  # one that could fit is left to the tokenizer

    def read(*args: Any, **kwargs: Any) -> list[int]:
        raise AssertionError("the tokenizer was given the text")

    monkeypatch.setattr(type(loaded.tokenizer._tokenizer), "_encode_plus", read)
    error = refusal(loaded, **request_of("a" * (most + 1)))
    assert isinstance(error, ContextTooLong)
    assert str(loaded.context_length) in error.message
    assert error.details["prompt_characters"] > most


def test_longest_token_bounds_every_text(loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    texts = [tokenizer.decode([token]) for token in range(loaded.vocabulary_size)]
    assert max(map(len, texts)) <= loaded.longest_token
