"""Both clients, the module functions and the face of the package have the same methods, with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import mlxbridge
from mlxbridge import AsyncClient, AsyncConversation, Client, Conversation
from mlxbridge.guest import default

OF_ONE_CONNECTION = {"close", "answer"}


def methods(kind: type) -> dict[str, Any]:
    return {
        name: getattr(kind, name)
        for name in dir(kind)
        if not name.startswith("_") and inspect.isfunction(getattr(kind, name))
    }


def shape(function: Any) -> list[tuple[Any, ...]]:
    """Parameters with their types, as they are written."""
    parameters = inspect.signature(function).parameters.values()
    return [
        (each.name, each.kind, each.default, each.annotation) for each in parameters if each.name != "self"
    ]


@pytest.mark.parametrize(("blocking", "other"), [(Client, AsyncClient), (Conversation, AsyncConversation)])
def test_async_methods_take_what_the_blocking_ones_do(blocking: type, other: type) -> None:
    assert methods(blocking).keys() == methods(other).keys()
    for name, method in methods(blocking).items():
        assert shape(method) == shape(getattr(other, name)), name
    assert shape(blocking) == shape(other) or blocking is Conversation


@pytest.mark.parametrize("name", sorted(methods(Client).keys() - OF_ONE_CONNECTION))
def test_method_is_a_module_function_too(name: str) -> None:
    assert shape(getattr(default, name)) == shape(getattr(Client, name))
    assert getattr(mlxbridge, name) is getattr(default, name) and name in mlxbridge.__all__


def test_names_of_the_face_lead_somewhere() -> None:
    for name in mlxbridge.__all__:
        assert getattr(mlxbridge, name) is not None
    assert set(mlxbridge._HOME) | {"__version__", "errors"} == set(mlxbridge.__all__)


@pytest.mark.parametrize(
    "name",
    [name for name, home in mlxbridge._HOME.items() if home in ("mlxbridge.types", "mlxbridge.errors")],
)
def test_public_class_says_what_it_is(name: str) -> None:
    assert getattr(mlxbridge, name).__doc__
