"""Reasoning and tool calls through the whole engine, with models that think and call: what each call is told, and what not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from tokenizers import AddedToken

from mlxbridge.errors import BridgeError, ContextTooLong, InvalidArgument, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.types import ToolCall
from tests.host.engine.scripted import CALLS_TEMPLATE, END, save_scripted_model
from tests.host.engine.tiny import (
    CHAT_TEMPLATE,
    TEXTS,
    Answers,
    byte_level_tokenizer,
    save_model,
    save_tokenizer,
)

MakeEngine = Callable[..., BatchEngine]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},
]
CALL_NOW = ["<tool_call>", '{"name": "now", ', '"arguments": {}}', "</tool_call>"]
SCRIPTS = {
    "<think>": ["I ", "must ", "look.", "</think>", "Let me see. ", *CALL_NOW, "\n", END],
    "<scene:plain>": ["plain ", "text", END],
    "<scene:two>": [
        "Both. ",
        "<tool_call>",
        '{"name": "now", ',
    ],
    "<scene:loop>": ["round ", "and ", "about ", "round "],
    "<scene:result>": ["It is ", "noon.", END],
    "<scene:broken>": ["Well ", "<tool_call>\n", "now!", "</tool_call>\n", "sorry", END],
    "<scene:thinks>": ["<think>\n", "hm ", "hm, ", "</think>\n", "so", END],
    "<scene:forever>": ["<think>\n\n", "on ", "on, ", "on "],
    "<scene:weather>": ['<tool_call>{"name": "weather"}', "</tool_call>\n\n", "<tool_call>"],
}


def chat(scene: str, **request: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"<scene:{scene}>"}], **request}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "scripted"
    save_scripted_model(folder, SCRIPTS)
    return load(folder, "scripted")


@pytest.fixture
def told(make_engine: MakeEngine, scripted: LoadedModel) -> Answers:
    return Answers(make_engine(scripted))


def only_call(answers: Answers, call: int) -> ToolCall:
    (found,) = answers.tool_calls(call)
    return found


def finish_reason(answers: Answers, call: int) -> str:
    usage = answers.last[call].usage
    assert usage is not None
    return usage.finish_reason


# -- what is told apart, and when


def test_thinking_and_calling(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS))
    told.finish()
    assert told.reasoning(1) == "I must look."
    assert told.texts[1] == "Let me see. \n"
    call = only_call(told, 1)
    assert (call.index, call.name, call.arguments, call.text) == (0, "now", {}, "{}")
    usage = told.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.reasoning_tokens) == ("tool_calls", 3)
    assert usage.completion_tokens == len(told.tokens[1]) + 1 == 11


def test_without_asking_all_is_text_and_rows_have_no_parts(told: Answers) -> None:
    told.submit(1, **chat("any"))
    rows = []
    while told.engine.has_work:
        rows += told.engine.step()
    assert "".join(row.text for row in rows) == "".join(SCRIPTS["<think>"]).removesuffix(END)
    assert all(row.parts is None for row in rows)
    usage = rows[-1].usage
    assert usage is not None and (usage.finish_reason, usage.reasoning_tokens) == ("stop", None)


def test_reasoning_alone_leaves_calls_in_the_text(told: Answers) -> None:
    told.submit(1, **chat("any", reasoning=True))
    told.finish()
    assert told.reasoning(1) == "I must look."
    assert told.texts[1] == "Let me see. " + "".join(CALL_NOW) + "\n"
    assert finish_reason(told, 1) == "stop"


def test_reasoning_is_switched_off_by_the_template(told: Answers) -> None:
    told.submit(1, **chat("plain", reasoning=False))
    told.submit(2, **chat("plain", chat_template_kwargs={"enable_thinking": False}))
    told.submit(3, **chat("any", reasoning=False, chat_template_kwargs={"scene": "<scene:plain>"}))
    told.finish()
    assert [told.texts[call] for call in (1, 2, 3)] == ["plain text"] * 3
    assert not any(told.parts.values())


def test_reasoning_that_the_model_opens_itself(told: Answers) -> None:
    told.submit(1, **chat("thinks", reasoning=False))
    told.finish()
    assert (told.reasoning(1), told.texts[1]) == ("\nhm hm, ", "\nso")
    usage = told.last[1].usage
    assert usage is not None and usage.reasoning_tokens == 2


def test_a_marker_in_the_messages_opens_nothing(told: Answers) -> None:
    messages = [{"role": "user", "content": "<think>"}, {"role": "user", "content": "<scene:plain>"}]
    told.submit(1, messages=messages, reasoning=False)
    told.finish()
    assert (told.texts[1], told.parts[1]) == ("plain text", [])


def test_conversation_goes_on_with_the_result(told: Answers) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "When?"}]
    told.submit(1, messages=turns, tools=TOOLS)
    told.finish()
    call = only_call(told, 1)
    function = {"name": call.name, "arguments": call.text}
    turns += [
        {
            "role": "assistant",
            "content": told.texts[1],
            "tool_calls": [{"id": call.id, "function": function}],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "12:00"},
    ]
    told.submit(2, messages=turns, tools=TOOLS, reasoning=False)
    told.finish()
    assert (told.texts[2], finish_reason(told, 2)) == ("It is noon.", "stop")


def test_without_parallel_calls_the_first_one_ends_the_answer(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS, parallel_tool_calls=False))
    told.finish()
    assert only_call(told, 1).name == "now"
    assert told.texts[1] == "Let me see. "
    usage = told.last[1].usage
    assert usage is not None and usage.finish_reason == "tool_calls"
    assert usage.completion_tokens == len(told.tokens[1]) == 9


def test_several_calls_are_told_in_order(told: Answers) -> None:
    told.submit(1, **chat("weather", tools=TOOLS, reasoning=False))
    told.finish()
    assert [(call.index, call.name) for call in told.tool_calls(1)] == [(0, "weather"), (1, "now")]
    assert len({call.id for call in told.tool_calls(1)}) == 2
    assert told.texts[1] == "\n\n\n"


def test_malformed_call_is_told_as_such(told: Answers) -> None:
    told.submit(1, **chat("broken", tools=TOOLS, reasoning=False))
    told.finish()
    call = only_call(told, 1)
    assert (call.malformed, call.text) == (True, "<tool_call>\nnow!</tool_call>")
    assert (told.texts[1], finish_reason(told, 1)) == ("Well \nsorry", "stop")


@pytest.mark.parametrize("max_tokens", range(5, 9))
def test_answer_that_ends_in_a_call_gives_what_there_is_of_it(told: Answers, max_tokens: int) -> None:
    told.submit(1, **chat("any", tools=TOOLS, max_tokens=max_tokens))
    told.finish()
    written = "".join(CALL_NOW[: max_tokens - 5])
    calls = told.tool_calls(1)
    if max_tokens == 8:  # all but the end marker is there
        assert [(call.name, call.malformed) for call in calls] == [("now", False)]
    else:
        assert [(call.text, call.malformed) for call in calls] == ([(written, True)] if written else [])
    assert finish_reason(told, 1) == "length"


def test_cancel_gives_what_was_held_back(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS))
    while len(told.tokens.get(1, [])) < 7:
        told.step()
    told.cancel(1)
    call = only_call(told, 1)
    assert (call.malformed, call.text) == (True, '<tool_call>{"name": "now", ')
    assert (told.texts[1], finish_reason(told, 1)) == ("Let me see. ", "cancelled")
    assert not told.engine.has_work


# -- stop strings


@pytest.mark.parametrize(
    ("stop", "reasoning", "text", "call"),
    [
        ("must", "I ", "", None),
        ("</think>", "I must look.", "", None),
        ("look.</think>Let", "I must ", "", None),
        ("see", "I must look.", "Let me ", None),
        ('"now"', "I must look.", "Let me see. ", '<tool_call>{"name": '),
        ("<tool_call>", "I must look.", "Let me see. ", None),
        ("}}</tool", "I must look.", "Let me see. ", '<tool_call>{"name": "now", "arguments": {'),
    ],
)
def test_stop_strings_are_looked_for_in_all_that_is_written(
    told: Answers, stop: str, reasoning: str, text: str, call: str | None
) -> None:
    told.submit(1, **chat("any", tools=TOOLS, stop=(stop,)))
    told.finish()
    assert (told.reasoning(1), told.texts[1]) == (reasoning, text)
    assert [found.text for found in told.tool_calls(1)] == ([] if call is None else [call])
    assert all(found.malformed for found in told.tool_calls(1))
    usage = told.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.stop_string) == ("stop", stop)


def test_stop_string_after_a_call_leaves_it(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS, stop=("\n",)))
    told.finish()
    assert only_call(told, 1).name == "now"
    usage = told.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.stop_string) == ("tool_calls", "\n")


def test_stop_string_that_never_comes_changes_nothing(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS))
    told.submit(2, **chat("any", tools=TOOLS, stop=("<tool_call>x", "</thinking>", "m", "I me")[:2]))
    told.finish()
    assert told.texts[1] == told.texts[2]
    assert told.reasoning(1) == told.reasoning(2)
    assert only_call(told, 1).text == only_call(told, 2).text


# -- budget


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 20])
def test_endless_reasoning_is_closed_after_its_budget(told: Answers, limit: int) -> None:
    told.submit(1, **chat("forever", reasoning=False, max_reasoning_tokens=limit, logprobs=1))
    told.submit(2, **chat("loop", reasoning=False, max_tokens=30))
    told.finish()
    words = ["on ", "on, "] * limit
    assert told.reasoning(1) == "\n\n" + "".join(words[:limit])
    assert told.texts[1].startswith("Let me see. ")
    usage = told.last[1].usage
    assert usage is not None and usage.reasoning_tokens == limit
    assert told.texts[2] == "round and about " * 10
    assert told.logprobs[1] is not None and len(told.logprobs[1]) == len(told.tokens[1])


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 50])
def test_reasoning_that_the_prompt_opens_has_its_budget_too(told: Answers, limit: int) -> None:
    told.submit(1, **chat("any", tools=TOOLS, max_reasoning_tokens=limit))
    told.finish()
    assert told.reasoning(1) == "".join(["I ", "must ", "look."][:limit])
    assert told.texts[1] == "Let me see. \n"
    assert told.tokens[1].count(told.engine._loaded.tokenizer.think_end_id) == 1


def test_budgets_of_many_rows_that_come_and_go(told: Answers) -> None:
    for call in range(24):
        if call % 3 == 0:
            told.submit(call, **chat("loop", reasoning=False, max_tokens=7 + call))
        else:
            told.submit(call, **chat("forever", reasoning=False, max_reasoning_tokens=1 + call % 5))
        told.step(call % 3)
    told.finish()
    for call in range(24):
        if call % 3:
            assert told.reasoning(call) == "\n\n" + "".join((["on ", "on, "] * 3)[: 1 + call % 5])
            assert told.texts[call].startswith("Let me see. ")


def test_budget_outlives_a_preemption(told: Answers) -> None:
    for position in range(1, 8):
        told.submit(position, **chat("forever", reasoning=False, max_reasoning_tokens=4))
        while len(told.tokens.get(position, [])) < position:
            told.step()
        roster = told.engine._roster
        (call,) = roster.running()
        roster.wait_again(call)
        told.finish()
        assert told.reasoning(position) == "\n\non on, on on, "
        assert told.texts[position].startswith("Let me see. ")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of random weights that knows the marks of reasoning, and means nothing by them."""
    folder = tmp_path_factory.mktemp("models") / "thinker"
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>")])
    save_model(folder, vocab_size=tokenizer.get_vocab_size())
    save_tokenizer(tokenizer, folder, template=CHAT_TEMPLATE + "{% if enable_thinking %}<think>{% endif %}")
    return load(folder, "thinker")


def test_answer_goes_on_as_the_model_does_after_such_reasoning(
    make_engine: MakeEngine, thinker: LoadedModel
) -> None:
    """Before the end of its budget as without one, then the end, then what mlx_lm says to all that came before."""
    answers = Answers(make_engine(thinker))
    for call, text in enumerate(TEXTS):
        messages = [{"role": "user", "content": text}]
        options: dict[str, Any] = {"messages": messages, "max_tokens": 24, "ignore_eos": True}
        answers.submit(call, reasoning=True, max_reasoning_tokens=3 + call, **options)
        answers.submit(100 + call, **options)
    answers.finish()
    end = thinker.tokenizer.think_end_id
    for call, text in enumerate(TEXTS):
        limit, tokens = 3 + call, answers.tokens[call]
        assert len(tokens) == 24
        assert tokens[:limit] == answers.tokens[100 + call][:limit] and end not in tokens[:limit]
        assert tokens[limit] == end
        messages = [{"role": "user", "content": text}]
        prompt = thinker.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        steps = generate_step(mx.array([*prompt, *tokens[: limit + 1]]), thinker.model, max_tokens=23 - limit)
        assert tokens[limit + 1 :] == [int(token) for token, _ in steps]


def test_seeded_reasoning_is_the_same_whatever_runs_beside_it(
    make_engine: MakeEngine, thinker: LoadedModel
) -> None:
    options: dict[str, Any] = {
        **{"messages": [{"role": "user", "content": "x"}], "max_tokens": 20, "temperature": 1.0, "seed": 7},
        **{"reasoning": True, "max_reasoning_tokens": 6, "logprobs": 2, "ignore_eos": True},
    }
    alone, beside = Answers(make_engine(thinker)), Answers(make_engine(thinker))
    alone.submit(1, **options)
    alone.finish()
    for call in range(5):
        beside.submit(10 + call, prompt=TEXTS[call], temperature=1.0, max_tokens=9 + call, ignore_eos=True)
        beside.step()
    beside.submit(1, **options)
    beside.finish()
    assert alone.tokens[1] == beside.tokens[1] and alone.parts[1] == beside.parts[1]
    assert alone.tokens[1][6] == thinker.tokenizer.think_end_id
    assert [entry.chosen.token_id for entry in alone.logprobs[1] or []] == alone.tokens[1]


XTML = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")


def test_end_of_several_tokens_is_drawn_whole(make_engine: MakeEngine, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken(text, special=True) for text in XTML])
    save_model(tmp_path / "xtml", vocab_size=tokenizer.get_vocab_size())
    template = CHAT_TEMPLATE + "{% if thinking %}{{ '<|open|>think<|sep|>' }}{% endif %}"
    save_tokenizer(tokenizer, tmp_path / "xtml", template=template)
    loaded = load(tmp_path / "xtml", "xtml")
    end = loaded.tokenizer.think_end_tokens
    assert len(end) > 2
    answers = Answers(make_engine(loaded))
    for call in range(4):
        messages = [{"role": "user", "content": "x" * (1 + call)}]
        answers.submit(call, messages=messages, reasoning=True, max_reasoning_tokens=2 + call, max_tokens=20)
    answers.finish()
    for call in range(4):
        tokens = answers.tokens[call]
        assert tuple(tokens[2 + call : 2 + call + len(end)]) == end
        usage = answers.last[call].usage
        assert usage is not None and usage.reasoning_tokens == 2 + call
        assert "<|close|>" not in answers.texts[call] + answers.reasoning(call)


def test_engine_says_what_its_model_can_tell_apart(told: Answers) -> None:
    facts = told.engine.describe()
    assert (facts["tool_parser"], facts["reasoning"]) == ("json_tools", True)
    assert (facts["reasoning_choices"], facts["keeps_reasoning"]) == ([False, True], True)


# -- what is refused, by name


def refusal(engine: BatchEngine, **request: Any) -> BridgeError:
    answers = Answers(engine)
    with pytest.raises(BridgeError) as caught:
        answers.submit(1, **request)
    assert not engine.has_work
    return caught.value


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        (chat("x", tools=TOOLS), "tools"),
        (chat("x", reasoning=True), "reasoning"),
        (chat("x", reasoning=False), "reasoning"),
        (chat("x", max_reasoning_tokens=5), "max_reasoning_tokens"),
        (chat("x", chat_template_kwargs={"enable_thinking": True}), "chat_template_kwargs.enable_thinking"),
    ],
)
def test_what_a_plain_model_cannot_do_is_refused(
    make_engine: MakeEngine, request_of: dict[str, Any], field: str
) -> None:
    error = refusal(make_engine(), **request_of)
    assert isinstance(error, Unsupported) and error.details == {"field": field}
    assert error.message.startswith(field)


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        (chat("x", chat_template_kwargs={"temperature": 1}), "chat_template_kwargs.temperature"),
        (chat("x", chat_template_kwargs={"chat_template": "x"}), "chat_template_kwargs.chat_template"),
        (chat("x", chat_template_kwargs={"tools": TOOLS}), "chat_template_kwargs.tools"),
        (
            chat("x", chat_template_kwargs={"add_generation_prompt": False}),
            "chat_template_kwargs.add_generation_prompt",
        ),
    ],
)
def test_what_this_model_cannot_do_is_refused(
    make_engine: MakeEngine, scripted: LoadedModel, request_of: dict[str, Any], field: str
) -> None:
    error = refusal(make_engine(scripted), **request_of)
    assert isinstance(error, Unsupported) and error.details == {"field": field}


def test_what_is_nested_too_deep_is_refused(make_engine: MakeEngine, scripted: LoadedModel) -> None:
    schema: dict[str, Any] = {}
    for _ in range(900):
        schema = {"a": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    error = refusal(make_engine(scripted), **chat("x", tools=[*TOOLS, tool]))
    assert isinstance(error, InvalidArgument) and error.details == {"field": f"tools[{len(TOOLS)}]"}


def test_reasoning_twice_is_refused(make_engine: MakeEngine, scripted: LoadedModel) -> None:
    request = chat("x", reasoning=True, chat_template_kwargs={"enable_thinking": True})
    error = refusal(make_engine(scripted), **request)
    assert isinstance(error, InvalidArgument) and error.details == {"field": "reasoning"}


@pytest.mark.parametrize(
    ("template", "wanted", "field"),
    [
        ("{{ messages[0].content }}<think>", False, "reasoning"),  # it cannot be switched off
        ("{{ messages[0].content }}", True, "reasoning"),  # nothing asks for it
        ("{{ messages[0].content }}<think>", True, None),
        ("{{ messages[0].content.split('</think>')[-1] }}", True, None),
        ("{{ messages[0].content }}{% if thinking %}<think>{% endif %}", False, None),
    ],
)
def test_template_without_a_switch(
    make_engine: MakeEngine, tmp_path: Path, template: str, wanted: bool, field: str | None
) -> None:
    save_scripted_model(tmp_path / "m", SCRIPTS, template=template)
    answers = Answers(make_engine(load(tmp_path / "m", "m")))
    assert (wanted in answers.engine.describe()["reasoning_choices"]) == (field is None)
    if field is None:
        answers.submit(1, **chat("plain", reasoning=wanted))
        answers.finish()
        assert answers.texts[1]
    else:
        error = refusal(answers.engine, **chat("plain", reasoning=wanted))
        assert isinstance(error, Unsupported) and error.details == {"field": field}


def test_tools_that_the_template_leaves_out_are_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    template = CALLS_TEMPLATE.replace("tools or []", "[]")
    save_scripted_model(tmp_path / "m", SCRIPTS, template=template)
    error = refusal(make_engine(load(tmp_path / "m", "m")), **chat("plain", tools=TOOLS))
    assert isinstance(error, Unsupported) and error.details == {"field": "tools"}


def test_choosing_none_tells_the_model_of_no_tools(told: Answers) -> None:
    told.submit(1, **chat("any", tools=TOOLS, tool_choice="none"))
    told.submit(2, **chat("any"))
    told.finish()
    usages = [told.last[call].usage for call in (1, 2)]
    assert len({usage.prompt_tokens for usage in usages if usage is not None}) == 1
    assert told.reasoning(1) == "I must look." and not told.tool_calls(1)
    assert told.texts[1] == "Let me see. " + "".join(CALL_NOW) + "\n"


def test_tools_that_cannot_fit_are_refused_unread(make_engine: MakeEngine, scripted: LoadedModel) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 2_000_000}}
    error = refusal(make_engine(scripted), **chat("any", tools=[tool]))
    assert isinstance(error, ContextTooLong) and error.details["prompt_characters"] > 2_000_000
