"""What callers are shown of a host's models."""

from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.visible import no_model, visible_name, visible_to
from mlxbridge.model_names import names_to_ask
from mlxbridge.types import ModelInfo


def model(name: str, **details: Any) -> ModelInfo:
    return ModelInfo(name=name, state="ready", source=f"/models/{name}", details=details)


CHAT = model("chat", aliases=["gpt-4o", "fast"], adapters=["sql", "tone"], context_length=4096)
MODELS = [CHAT, model("other"), model("chat+odd")]


def asks(*models: str) -> list[str]:
    """All names that a caller with these models is shown."""
    seen = visible_to(Caller(name="alice", models=models), MODELS)
    return [name for one in seen for name in names_to_ask(one)]


def test_caller_with_all_models_is_shown_each_by_all_names() -> None:
    assert visible_to(Caller(name="alice"), MODELS) == MODELS
    assert names_to_ask(CHAT) == ("chat", "gpt-4o", "fast", "chat+sql", "chat+tone")


@pytest.mark.parametrize(
    ("models", "shown"),
    [
        (["chat"], ["chat"]),
        (["fast"], ["fast"]),
        (["chat+sql"], ["chat+sql"]),
        (["fast+sql", "gpt-4o"], ["fast+sql", "gpt-4o"]),
        (["chat+odd", "other"], ["other", "chat+odd"]),
        (["chat+nothing", "nothing", "sql"], []),
        ([], []),
    ],
)
def test_caller_with_some_models_is_shown_what_she_may_ask_for(models: list[str], shown: list[str]) -> None:
    assert asks(*models) == shown


def test_model_by_another_name_tells_nothing_of_its_own() -> None:
    (seen,) = visible_to(Caller(name="alice", models=("fast", "chat+sql")), MODELS)
    assert seen.details == {"aliases": ["chat+sql"], "adapters": [], "context_length": 4096}
    assert (seen.name, seen.source) == ("fast", "")
    (seen,) = visible_to(Caller(name="alice", models=("other",)), MODELS)
    assert (seen.name, seen.source) == ("other", "/models/other")


def test_what_the_host_tells_of_is_called_as_the_caller_may_call_it() -> None:
    alice = Caller(name="alice", models=("fast",))
    assert visible_name(alice, MODELS, "chat") == visible_name(alice, MODELS, "chat+sql") == "fast"
    assert visible_name(alice, MODELS, "other") is visible_name(alice, [], "chat") is None
    assert visible_name(Caller(name="bob"), [], "anything") == "anything"


def test_model_that_is_not_there_is_told_with_her_own_alone() -> None:
    problem = no_model(Caller(name="alice", models=("fast", "other")))
    assert (problem.status, problem.field) == (404, "model")
    assert problem.message == "model not found: this key may use fast, other"
