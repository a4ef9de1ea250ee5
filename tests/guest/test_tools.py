"""Python functions as tools: what the model is told of them, and the chat that goes on while it calls them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import pytest

from mlxbridge import AsyncClient, Client, Tool, ToolRun, UsageError
from mlxbridge.guest.tools import read_docstring
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host
from tests.guest.shapes import City, Person


def get_weather(city: str, unit: Literal["C", "F"] = "C", days: Annotated[int, "How many."] = 1) -> str:
    """What the weather is like.

    It is a guess.

    Args:
        city: where,
            in any language.
        unit (str): of degrees.

    Returns:
        A text.
    """
    return f"{city}: 20 {unit} for {days}"


def introduce(person: Person, friends: list[Person] | None = None) -> dict[str, Any]:
    """:param person: whom."""
    return {"hello": person, "and": [friend.name for friend in friends or []]}


async def slowly(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


def fail(reason: str) -> None:
    raise RuntimeError(reason)


def test_function_is_described_by_its_signature_and_docstring() -> None:
    assert Tool(get_weather).schema == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "What the weather is like.\n\nIt is a guess.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "where, in any language."},
                    "unit": {"enum": ["C", "F"], "description": "of degrees."},
                    "days": {"type": "integer", "description": "How many."},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


def test_classes_of_several_parameters_are_defined_once() -> None:
    parameters = Tool(introduce).schema["function"]["parameters"]
    assert parameters["properties"]["person"] == {"$ref": "#/$defs/Person", "description": "whom."}
    assert [*parameters["$defs"]] == ["Person"]


def test_name_and_description_can_be_given() -> None:
    function = Tool(partial(get_weather, unit="F"), name="warm", description="Is it?").schema["function"]
    assert (function["name"], function["description"]) == ("warm", "Is it?")


class Greeter:
    def greet(self, name: str) -> str:
        return f"Hello {name}"

    def __call__(self, name: str) -> str:
        return self.greet(name)


def test_methods_and_callable_objects_are_tools() -> None:
    assert [*Tool(Greeter().greet).schema["function"]["parameters"]["properties"]] == ["name"]
    assert Tool(Greeter(), name="greet")(name="you") == "Hello you"


def unhinted(a, b: int = 0):  # type: ignore[no-untyped-def]
    """No types."""


def various(*numbers: int) -> None:
    """Any number."""


def positional(a: int, /) -> None:
    """By place."""


def binary(data: bytes) -> None:
    """No JSON."""


@pytest.mark.parametrize(
    ("function", "field"),
    [
        (unhinted, "tools.unhinted.a: has no type hint"),
        (various, "tools.various.numbers: a model cannot give"),
        (positional, "tools.positional.a: a model cannot give"),
        (binary, "tools.binary.data: cannot be said as a JSON schema: bytes"),
        (lambda: None, "tools.<lambda>: has no name"),
        (partial(get_weather), "tools.*: has no name"),
        (max, "tools.max: its parameters cannot be read"),
    ],
)
def test_what_a_model_could_not_call_is_refused_by_name(function: Callable[..., Any], field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field}"):
        Tool(function)


@pytest.mark.parametrize(
    ("text", "said", "arguments"),
    [
        ("", "", {}),
        ("Only this.", "Only this.", {}),
        (
            "A.\n\nArgs:\n    a: one\n    b (int, optional): two:\n        more\n",
            "A.",
            {"a": "one", "b": "two: more"},
        ),
        ("A.\n\n:param a: one\n:param int b: two\n:returns: c", "A.", {"a": "one", "b": "two"}),
        ("A.\n\nReturns:\n    b: no argument", "A.", {}),
        ("A.\nArgs:\n  a: one\nNote: b", "A.", {"a": "one"}),
    ],
)
def test_docstrings_are_read(text: str, said: str, arguments: dict[str, str]) -> None:
    assert read_docstring(text) == (said, arguments)


# -- the loop: a model that calls what the test says, and then repeats what it was told

Script = list[list[Any]]
asked: list[Any] = []


def call(name: str, text: str, number: int = 0) -> list[Any]:
    return [2, number, f"id{number}", name, text]


class ScriptedCalls:
    """Answers the n-th call with the n-th row of parts, and once there are none with what the tools said."""

    def __init__(self, *script: list[Any]) -> None:
        self.script = script
        self.num_asked = 0

    def __call__(self, connection: HostConnection, event: Event) -> None:
        if not isinstance(event, CallOpened):
            return
        asked.append(event.params)
        parts = self.script[self.num_asked] if self.num_asked < len(self.script) else None
        self.num_asked += 1
        if parts:
            connection.send_tokens([event.call], [[1]], [""], None, [parts])
            is_call = any(part[0] == 2 for part in parts)
            connection.finish(event.call, {"finish_reason": "tool_calls" if is_call else "stop"})
        else:
            said = [
                message.get("content") for message in event.params["messages"] if message["role"] == "tool"
            ]
            connection.send_tokens([event.call], [[2]], [" | ".join(said)])
            connection.finish(event.call, {"finish_reason": "stop"})


Start = Callable[..., ScriptHost]


@pytest.fixture
def start(path: str) -> Iterator[Start]:
    asked.clear()
    hosts = []

    def start(*script: list[Any]) -> ScriptHost:
        made = script_host(path, ScriptedCalls(*script))
        hosts.append(made)
        return made.__enter__()

    yield start
    for made in hosts:
        made.__exit__(None, None, None)


def run(url: str, kind: str, tools: list[Any], **options: Any) -> ToolRun:
    if kind == "blocking":
        with Client(url, timeout=20) as client:
            return client.run_tools("go", tools, **options)

    async def ask() -> ToolRun:
        async with AsyncClient(url, timeout=20) as other:
            return await other.run_tools("go", tools, **options)

    return asyncio.run(ask())


KINDS = pytest.mark.parametrize("kind", ["blocking", "async"])


@KINDS
def test_tools_are_called_until_the_model_has_its_answer(start: Start, kind: str) -> None:
    host = start(
        [call("get_weather", '{"city": "Rome"}'), call("get_weather", '{"city": "Oslo", "days": 2}', 1)],
        [call("introduce", '{"person": {"name": "Al", "friends": [{"name": "Bo"}]}}', 2)],
    )
    done = run(host.url, kind, [get_weather, introduce], temperature=0.5)
    introduced = {
        "hello": {"name": "Al", "age": 0, "friends": [{"name": "Bo", "age": 0, "friends": []}]},
        "and": [],
    }
    said = ["Rome: 20 C for 1", "Oslo: 20 C for 2", json.dumps(introduced)]
    assert (str(done), done.num_rounds) == (" | ".join(said), 2)
    assert [message["role"] for message in done.messages] == [
        *["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    ]
    assert [message.get("tool_call_id") for message in done.messages][2:4] == ["id0", "id1"]
    assert done.messages[-1] == done.generation.message
    assert asked[0]["tools"] == [Tool(get_weather).schema, Tool(introduce).schema]
    assert all(params["temperature"] == 0.5 for params in asked)
    assert [len(params["messages"]) for params in asked] == [1, 4, 6]


@KINDS
def test_model_is_told_what_went_wrong(start: Start, kind: str) -> None:
    host = start(
        [
            call("fail", '{"reason": "no power"}'),
            call("nothing", "{}", 1),
            call("get_weather", '{"city": 3}', 2),
            call("get_weather", "{}", 3),
            call("get_weather", '{"city": "Rome", "colour": "red"}', 4),
        ]
    )
    assert str(run(host.url, kind, [fail, get_weather])).split(" | ") == [
        "Error: RuntimeError: no power",
        "Error: there is no tool 'nothing'; there are fail, get_weather",
        "Error: get_weather.city: must be a text, not 3",
        "Error: get_weather: lacks city",
        "Error: get_weather: there is no 'colour'; there are city, unit, days",
    ]


@KINDS
def test_errors_of_tools_are_raised_where_that_is_asked_for(start: Start, kind: str) -> None:
    host = start([call("fail", '{"reason": "no power"}')])
    with pytest.raises(RuntimeError, match="no power"):
        run(host.url, kind, [fail], raise_errors=True)


@KINDS
def test_call_that_cannot_be_read_is_asked_for_again(start: Start, kind: str) -> None:
    host = start([[3, 0, "<tool_call>{oops"]], [call("get_weather", '{"city": "Rome"}')])
    done = run(host.url, kind, [get_weather])
    assert str(done) == "Rome: 20 C for 1"
    assert done.messages[1] == {"role": "assistant", "content": "<tool_call>{oops"}
    assert done.messages[2]["role"] == "user"


@KINDS
def test_rounds_have_a_bound(start: Start, kind: str) -> None:
    host = start(*([call("get_weather", '{"city": "Rome"}')] for _ in range(10)))
    done = run(host.url, kind, [get_weather], max_rounds=3)
    assert (done.num_rounds, done.generation.finish_reason, len(asked)) == (3, "tool_calls", 4)
    assert done.messages[-1] == done.generation.message


@KINDS
def test_sure_call_is_for_the_first_answer(start: Start, kind: str) -> None:
    host = start([call("get_weather", '{"city": "Rome"}')])
    run(host.url, kind, [get_weather], tool_choice="required")
    assert [params["tool_choice"] for params in asked] == ["required", "auto"]


def test_async_tools_run_side_by_side(start: Start) -> None:
    host = start([call("meet", '{"number": 1}'), call("meet", '{"number": 2}', 1)])
    here: list[int] = []
    both = asyncio.Event()

    async def meet(number: int) -> int:
        here.append(number)
        if len(here) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return number

    assert str(run(host.url, "async", [meet])) == "1 | 2"


def test_async_tool_is_refused_by_the_blocking_client(start: Start) -> None:
    with pytest.raises(UsageError, match=r"^tools\[0\]: slowly is an async function; AsyncClient"):
        run(start().url, "blocking", [slowly])
    assert not asked


class Slowly:
    """A tool that shows only when it is called that it is async."""

    __name__ = "slowly"

    def __call__(self, number: int) -> Any:
        return slowly(number)


@pytest.mark.filterwarnings("error")  # nothing is left unawaited
def test_so_is_one_that_turns_out_to_be_async(start: Start) -> None:
    host = start([call("slowly", '{"number": 1}')])
    with pytest.raises(UsageError, match=r"^tools\.slowly: is an async function; AsyncClient"):
        run(host.url, "blocking", [Slowly()])


def by_place() -> dict[tuple[int, int], str]:
    """Nothing that JSON has."""
    return {(1, 2): "here"}


@KINDS
def test_model_is_told_of_results_that_cannot_be_told(start: Start, kind: str) -> None:
    def name_of_file() -> str:
        """As the file system has it, which need not be UTF-8."""
        return "caf\udce9"

    host = start([call("by_place", "{}"), call("name_of_file", "{}", 1)])
    assert str(run(host.url, kind, [by_place, name_of_file])).split(" | ") == [
        "Error: TypeError: keys must be str, int, float, bool or None, not tuple",
        r"caf\udce9",
    ]


@KINDS
def test_results_that_cannot_be_told_are_errors_like_others(start: Start, kind: str) -> None:
    host = start([call("by_place", "{}")])
    with pytest.raises(TypeError, match="keys must be"):
        run(host.url, kind, [by_place], raise_errors=True)


@pytest.mark.parametrize(
    ("tools", "options", "field"),
    [
        (get_weather, {}, "tools"),
        ([Tool(get_weather).schema], {}, r"tools\[0\]"),
        ([get_weather, get_weather], {}, "tools"),
        ([City], {}, r"tools\.City\.name: has no type hint"),
        ([get_weather], {"max_rounds": 0}, "max_rounds"),
        ([get_weather], {"messages": []}, "messages"),
        ([get_weather], {"temprature": 1}, "temprature"),
        ([get_weather], {"stream": True}, "stream"),
        ([get_weather], {"n": 2}, "n"),
    ],
)
@KINDS
def test_what_cannot_be_run_is_refused_by_name(
    start: Start, kind: str, tools: Any, options: dict[str, Any], field: str
) -> None:
    url = start().url
    with pytest.raises(
        (UsageError, TypeError), match=field
    ):  # the latter is Python's own, for what is given twice
        run(url, kind, tools, **options)
    assert not asked


def test_functions_may_be_given_to_any_chat(start: Start) -> None:
    host = start([call("get_weather", '{"city": "Rome"}')])
    with Client(host.url, timeout=20) as client:
        schema = {"type": "function", "function": {"name": "now"}}
        (wanted,) = client.chat("x", tools=[get_weather, schema]).tool_calls
    assert (wanted.name, wanted.arguments) == ("get_weather", {"city": "Rome"})
    assert asked[0]["tools"] == [Tool(get_weather).schema, schema]
