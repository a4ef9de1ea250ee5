"""What openai's programs import beside its clients: types, tools, and what a host has not, each beside the original."""

from __future__ import annotations

import importlib
import types
from typing import Any, Literal, get_type_hints

import openai as original
import pytest
from pydantic import BaseModel, Field

from mlxbridge.compat import openai
from mlxbridge.compat.openai import objects
from mlxbridge.compat.openai.timeouts import seconds_of

MODULES = ["", ".chat", ".chat.chat_completion", ".chat.chat_completion_chunk", ".completion_usage"]


@pytest.mark.parametrize("name", MODULES)
def test_types_are_where_openai_has_them(name: str) -> None:
    mine: Any = importlib.import_module(f"mlxbridge.compat.openai.types{name}")
    theirs: Any = importlib.import_module(f"openai.types{name}")
    for one in mine.__all__:
        kind, other = getattr(mine, one), getattr(theirs, one)
        if isinstance(kind, type) and issubclass(kind, objects.Object):
            fields = getattr(other, "model_fields", {})  # of a union there are none
            assert {*kind.optional} <= {*fields} or not fields, one


@pytest.mark.parametrize("name", ["chat", "shared_params"])
def test_parameters_have_openais_members(name: str) -> None:
    mine: Any = importlib.import_module(f"mlxbridge.compat.openai.types.{name}")
    theirs: Any = importlib.import_module(f"openai.types.{name}")
    found = 0
    for one, kind in vars(mine).items():
        other = getattr(theirs, one, None)
        if hasattr(kind, "__required_keys__") and hasattr(other, "__required_keys__"):
            found += 1
            assert {*get_type_hints(kind)} <= {*get_type_hints(other)}, one
    assert found > 3


def test_types_may_be_made_and_subscribed() -> None:
    from mlxbridge.compat.openai.types.chat import ChatCompletionUserMessageParam

    assert ChatCompletionUserMessageParam(role="user", content="x") == {"role": "user", "content": "x"}
    message = openai.types.chat.ChatCompletionMessage(role="assistant", content="x")
    assert message.content == "x" and message.tool_calls is None
    subscribed: Any = openai.types.chat.ParsedChatCompletion
    assert subscribed[int]


class Street(BaseModel):
    name: str
    number: int | None = None


class Address(BaseModel):
    """Where somebody lives."""

    street: Street
    others: list[Street] = []
    kind: Literal["home", "work"] = "home"
    note: str = Field(default="", description="anything else")


@pytest.mark.parametrize("given", [{}, {"name": "find", "description": "Finds it."}])
@pytest.mark.parametrize("model", [Street, Address])
def test_tool_of_a_model_is_openais(model: Any, given: dict[str, Any]) -> None:
    assert openai.pydantic_function_tool(model, **given) == original.pydantic_function_tool(model, **given)


def lacking(ours: Any, theirs: Any) -> list[str]:
    return [name for name in dir(theirs) if not name.startswith("_") and not hasattr(ours, name)]


def test_what_there_is_not_says_why() -> None:
    client, theirs = openai.OpenAI(), original.OpenAI(api_key="x")
    places: list[tuple[Any, Any]] = [
        (openai, original),
        (client, theirs),
        (openai.AsyncOpenAI(), theirs),
        (client.beta, theirs.beta),
        *((getattr(client, name), getattr(theirs, name)) for name in ("completions", "embeddings", "models")),
        (client.chat.completions, theirs.chat.completions),
    ]
    for mine, other in places:
        missing = lacking(mine, other)
        assert missing
        for name in missing:
            with pytest.raises(AttributeError, match=f"nothing like openai's '.*{name}': .+"):
                getattr(mine, name)
    assert isinstance(openai.types, types.ModuleType)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("responses", "`mlxbridge gateway` has it, over HTTP"),
        ("files", "generate_many"),
        ("chat.completions.list", "Conversation keeps messages"),
        ("chat.completions.with_streaming_response", "stream=True"),
        ("beta.assistants", "stores nothing"),
        ("frobnicate", "there is chat.completions"),
    ],
)
def test_reasons_say_what_there_is_in_the_place(path: str, why: str) -> None:
    value: Any = openai.OpenAI()
    *places, name = path.split(".")
    for place in places:
        value = getattr(value, place)
    with pytest.raises(AttributeError, match=why):
        getattr(value, name)
    if not places:
        with pytest.raises(AttributeError, match=why):
            getattr(openai, name)


def test_timeouts_are_httpxs() -> None:
    for ours, theirs in (
        (openai.Timeout(5), original.Timeout(5)),
        (openai.Timeout(60, connect=2, read=5, write=1), original.Timeout(60, connect=2, read=5, write=1)),
        (openai.Timeout(None), original.Timeout(None)),
        (openai.Timeout(60, read=None), original.Timeout(60, read=None)),
    ):
        assert seconds_of(ours) == seconds_of(theirs)
        for name in ("connect", "read", "write", "pool"):
            assert getattr(ours, name) == getattr(theirs, name)
    with pytest.raises(TypeError, match="reed"):
        openai.Timeout(60, **{"reed": 5})
    assert (seconds_of(3), seconds_of(None)) == (3, None)


@pytest.mark.parametrize("given", [{"engine": "a", "model": "b"}, {"timeout": 2, "request_timeout": 1}])
def test_parameter_by_its_name_of_old_and_of_now_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="give one of them") as caught:
        openai.Completion.create(prompt="The ", **given)
    assert caught.value.param in given


@pytest.mark.parametrize("client", [openai.OpenAI, openai.AsyncOpenAI])
def test_method_that_streams_does_not_take_that_it_should_not(client: Any) -> None:
    nowhere = client(base_url="unix:///nowhere/m.sock")
    with pytest.raises(openai.BadRequestError) as caught:
        nowhere.chat.completions.stream(model="demo", messages=[], stream=False)
    assert caught.value.param == "stream"
