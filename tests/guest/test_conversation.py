"""Conversations: what they remember of turns that end well, fail, or are left early."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import Client
from mlxbridge.errors import ContextTooLong, Overloaded, UsageError
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host
from tests.helpers.either import KINDS, either_client

TOOL = {"type": "function", "function": {"name": "now"}}
MAX_MESSAGES = 5
asked: list[Any] = []


def answer(connection: HostConnection, event: Event) -> None:
    """Two pieces of text, unless the last message says otherwise; and no more messages than fit."""
    if isinstance(event, CallCancelled):
        connection.finish(event.call, {"finish_reason": "cancelled"})
    if not isinstance(event, CallOpened):
        return
    asked.append(event.params)
    if event.method == "tokenize":
        connection.finish(event.call, {"num_tokens": len(event.params["messages"])})
        return
    messages = event.params["messages"]
    said = messages[-1]["content"]
    if len(messages) > MAX_MESSAGES:
        connection.fail(event.call, ContextTooLong("too long"))
    elif said == "fail":
        connection.send_tokens([event.call], [[1]], ["some "])
        connection.fail(event.call, Overloaded("busy"))
    elif said == "refuse":
        connection.fail(event.call, Overloaded("busy"))
    elif said in ("hang", "wait"):
        if said == "hang":
            connection.send_tokens([event.call], [[1]], ["only "])
    elif said == "scribble":
        connection.send_tokens([event.call], [[1]], [""], None, [[[3, 0, "<call>{oops"]]])
        connection.finish(event.call, {"finish_reason": "stop"})
    elif said == "call":
        connection.send_tokens([event.call], [[1]], ["Let me see."], None, [[[2, 0, "a1", "now", "{}"]]])
        connection.finish(event.call, {"finish_reason": "tool_calls"})
    else:
        connection.send_tokens([event.call], [[1]], ["You said "])
        connection.send_tokens([event.call], [[2]], [str(said)])
        connection.finish(event.call, {"finish_reason": "stop"})


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    asked.clear()
    with script_host(path, answer) as running:
        yield running


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, host: ScriptHost) -> Iterator[Any]:
    with either_client(request.param, host.url, timeout=20) as made:
        yield made


def roles(talk: Any) -> str:
    return "".join(message["role"][0] for message in talk.messages)


def texts(talk: Any) -> list[str]:
    return [message.get("content") for message in talk.messages]


def test_turns_are_remembered(client: Any) -> None:
    talk = client.conversation(system="Be kind.", temperature=0.5)
    assert talk.say("one").text == "You said one"
    assert str(talk.say("two", max_tokens=7)) == "You said two"
    assert texts(talk) == ["Be kind.", "one", "You said one", "two", "You said two"]
    assert roles(talk) == "suaua"
    assert [len(params["messages"]) for params in asked] == [2, 4]
    assert [params.get("max_tokens") for params in asked] == [None, 7]
    assert all(params["temperature"] == 0.5 for params in asked)
    assert talk.count_tokens() == 5


def test_stream_is_remembered_at_its_end(client: Any) -> None:
    talk = client.conversation()
    with talk.stream("one") as stream:
        assert [str(chunk) for chunk in stream] == ["You said ", "one"]
        assert stream.generation.text == stream.text == "You said one"
    assert texts(talk) == ["one", "You said one"]


@pytest.mark.parametrize("text", ["fail", "refuse"])
def test_turn_that_fails_is_taken_back(client: Any, text: str) -> None:
    talk = client.conversation()
    talk.say("one")
    with pytest.raises(Overloaded):
        talk.say(text)
    with pytest.raises(Overloaded):
        list(talk.stream(text))
    assert texts(talk) == ["one", "You said one"]
    assert str(talk.say("two")) == "You said two"


def test_turn_that_was_never_sent_is_taken_back(client: Any) -> None:
    talk = client.conversation()
    with pytest.raises(UsageError, match="^temprature: "):
        talk.say("one", temprature=1)
    assert talk.messages == []


@pytest.mark.parametrize(("text", "kept"), [("hang", ["hang", "only "]), ("wait", [])])
def test_answer_that_is_left_early_is_kept_as_far_as_it_came(client: Any, text: str, kept: list[str]) -> None:
    talk = client.conversation()
    with talk.stream(text) as stream:
        if kept:
            assert str(next(stream)) == "only "
        with pytest.raises(UsageError, match="under way"):
            talk.say("two")
        with pytest.raises(UsageError, match="under way"):
            talk.undo()
    assert texts(talk) == kept
    with pytest.raises(UsageError, match="before its end"):
        _ = stream.generation
    assert str(talk.say("two")) == "You said two"


def test_stream_that_is_dropped_is_left(client: Any) -> None:
    talk = client.conversation()
    stream = talk.stream("hang")
    next(stream)
    del stream
    gc.collect()
    assert texts(talk) == ["hang", "only "]


def test_conversation_that_does_not_fit_is_refused(client: Any) -> None:
    talk = client.conversation(system="s")
    for text in ("one", "two"):
        talk.say(text)
    with talk.stream("three") as stream, pytest.raises(ContextTooLong):
        list(stream)
    assert texts(talk) == ["s", "one", "You said one", "two", "You said two"]


def test_oldest_turns_are_dropped_where_that_is_asked_for(client: Any) -> None:
    talk = client.conversation(system="s", when_full="drop_oldest")
    for text in ("one", "two", "three", "four"):
        assert str(talk.say(text)) == f"You said {text}"
    assert texts(talk) == ["s", "three", "You said three", "four", "You said four"]
    with pytest.raises(Overloaded):
        talk.say("fail")
    assert texts(talk)[1] == "three"  # what was dropped for a turn that failed comes back


def test_turn_that_does_not_fit_alone_is_refused(client: Any) -> None:
    first = [{"role": "system", "content": str(number)} for number in range(MAX_MESSAGES)]
    talk = client.conversation(messages=first, when_full="drop_oldest")
    with pytest.raises(ContextTooLong):
        talk.say("one")
    assert talk.messages == first


def test_last_turn_can_be_undone_and_all_be_reset(client: Any) -> None:
    talk = client.conversation(system="s")
    talk.say("one")
    talk.say("two")
    talk.undo()
    assert texts(talk) == ["s", "one", "You said one"]
    talk.reset()
    assert texts(talk) == ["s"]
    with pytest.raises(UsageError, match="no turn"):
        talk.undo()


def test_saved_conversation_goes_on(client: Any, tmp_path: Path) -> None:
    talk = client.conversation(system="東京")
    talk.say("one")
    talk.save(tmp_path / "talk.json")
    assert json.loads((tmp_path / "talk.json").read_text()) == {"messages": talk.messages}
    other = client.conversation(system="another")
    other.load(tmp_path / "talk.json")
    assert other.messages == talk.messages
    other.say("two")
    assert (roles(other), roles(talk)) == ("suaua", "sua")
    other.reset()
    assert texts(other) == ["東京"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"messages": [3]}', '{"messages": [{"content": "x"}]}'])
def test_file_that_is_no_conversation_is_refused(client: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "talk.json").write_text(text)
    talk = client.conversation()
    talk.say("one")
    with pytest.raises(UsageError, match="^path: "):
        talk.load(tmp_path / "talk.json")
    assert texts(talk) == ["one", "You said one"]


def test_functions_are_run_amid_a_turn(client: Any) -> None:
    def now() -> str:
        """The time."""
        return "noon"

    talk = client.conversation(tools=[now])
    with talk.stream("call") as stream:
        assert [str(chunk) for chunk in stream] == ["Let me see.", "You said ", "noon"]
    assert stream.generation.text == "You said noon"
    assert roles(talk) == "uata"
    assert talk.messages[1]["tool_calls"][0]["id"] == talk.messages[2]["tool_call_id"] == "a1"


def test_calls_of_schemas_are_the_callers(client: Any) -> None:
    talk = client.conversation(tools=[TOOL])
    (call,) = talk.say("call").tool_calls
    with pytest.raises(UsageError, match="1 tool calls have no result yet: give it with answer_tool"):
        talk.say("and?")
    talk.answer_tool(call, {"hour": 12})
    with pytest.raises(UsageError, match="^call: "):
        talk.answer_tool(call, "again")
    assert str(talk.say()) == 'You said {"hour": 12}'
    assert roles(talk) == "uata"
    with pytest.raises(UsageError, match="^text: "):
        talk.say()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"when_full": "cut"}, "when_full"),
        ({"system": "s", "messages": [{"role": "system", "content": "t"}]}, "system"),
        ({"tools": [len]}, r"tools\.len"),
        ({"tools": [print], "max_rounds": 0}, "tools|max_rounds"),
        ({"tools": len}, "tools"),
        ({"tools": 3}, "tools"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": 3, "system": "s"}, "messages"),
        ({"messages": ["Hello"], "system": "s"}, r"messages\[0\]"),
        ({"temprature": 1}, "temprature"),
        ({"stream": True}, "stream"),
        ({"response_format": [str]}, "response_format"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: Any, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field}"):
        client.conversation(**settings)


def test_turn_is_one_answer(client: Any) -> None:
    talk = client.conversation()
    for name, value in (("stream", True), ("n", 2), ("prompt", "x"), ("temprature", 1)):
        with pytest.raises(UsageError, match=f"^{name}: "):
            talk.say("x", **{name: value})
    assert (asked, talk.messages) == ([], [])


def test_messages_of_others_are_for_the_host_to_judge(client: Any) -> None:
    called = {"function": {"name": "now", "arguments": {}}}  # which needs no id
    for first in (
        [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [called]}],
        [{"role": "assistant", "tool_calls": ["now", {"id": ["a"]}]}, {"role": "tool", "tool_call_id": []}],
        [{"role": "assistant", "tool_calls": 5}],
        [{"content": "x"}],
    ):
        talk = client.conversation(messages=first)
        assert str(talk.say("one")) == "You said one"
        assert asked[-1]["messages"][:-1] == first
        talk.undo()
        assert talk.messages == first
    talk.messages[:] = ["x"]
    with pytest.raises(UsageError, match=r"^messages\[0\]: "):
        talk.say("one")


def test_call_that_was_written_again_is_of_the_same_turn(client: Any) -> None:
    def now() -> str:
        """The time."""
        return "noon"

    talk = client.conversation(tools=[now], when_full="drop_oldest")
    talk.say("scribble")
    assert roles(talk) == "uaua" and texts(talk)[1] == "<call>{oops"
    talk.say("one")
    talk.say("two")  # too much with all that was before, of which the first turn goes as a whole
    assert texts(talk) == ["one", "You said one", "two", "You said two"]
    talk.reset()
    talk.say("scribble")
    talk.undo()
    assert talk.messages == []


def test_tools_are_for_the_whole_conversation(client: Any) -> None:
    talk = client.conversation()
    with pytest.raises(UsageError, match="^tools: is for the whole conversation"):
        talk.say("x", tools=[TOOL])
    assert asked == []


def test_conversation_shows_how_long_it_is() -> None:
    with Client("unix:///nobody") as client:
        talk = client.conversation(system="Be brief.")
    assert "Conversation of 1 messages, the last {'content': 'Be brief.', 'role': 'system'}" in repr(talk)
