"""A host's models by Ollama's names and in its entries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlxbridge.guest.gateway.ollama.models import find, hub_name, process, show, tagged, tags
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import ModelInfo

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def model(name: str, state: str = "ready", **details: Any) -> ModelInfo:
    return ModelInfo(name=name, state=state, source=name, details=details)


MODELS = [
    model("demo", aliases=["gpt-4o"], adapters=["style"]),
    model("tagged:latest"),
    model("org/a+b"),
]


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("demo", "demo", "demo"),
        ("demo:latest", "demo", "demo"),
        ("gpt-4o:latest", "gpt-4o", "demo"),
        ("demo+style", "demo+style", "demo"),
        ("demo+style:latest", "demo+style", "demo"),
        ("tagged:latest", "tagged:latest", "tagged:latest"),
        ("org/a+b", "org/a+b", "org/a+b"),
    ],
)
def test_model_is_found_by_its_names(name: str, asked: str, found: str) -> None:
    model = find(MODELS, name)
    assert (model.name, model.info.name) == (asked, found)


@pytest.mark.parametrize("name", ["tagged", "demo:7b", "demo+other", "Demo", ""])
def test_model_that_there_is_not_is_told(name: str) -> None:
    with pytest.raises(Problem) as refused:
        find(MODELS, name)
    assert refused.value.status == 404 and repr(name) in refused.value.message


@pytest.mark.parametrize(
    ("name", "listed"),
    [("org/name", "org/name:latest"), ("llama3.2:3b", "llama3.2:3b"), ("tagged:latest", "tagged:latest")],
)
def test_names_are_listed_with_a_tag(name: str, listed: str) -> None:
    assert tagged(name) == listed
    entry = process(model(name), NOON)
    assert entry is not None and (entry["name"], entry["model"]) == (listed, listed)


@pytest.mark.parametrize("name", ["hf.co/org/name", "huggingface.co/org/name:latest", "org/name"])
def test_hub_is_left_out_of_names(name: str) -> None:
    assert hub_name(name) == "org/name"


def test_each_name_has_an_entry_with_one_digest() -> None:
    info = model("demo", aliases=["gpt-4o"], estimated_bytes=5, parameters=7_615_616_512)
    first, second = tags(info)
    assert (first["name"], second["model"], first["size"]) == ("demo:latest", "gpt-4o:latest", 5)
    assert first["digest"] == second["digest"] and len(first["digest"]) == 64
    assert first["details"]["parameter_size"] == "7.62B"


@pytest.mark.parametrize(
    ("details", "level"),
    [
        ({"quantization": {"bits": 4, "group_size": 64}, "dtype": "bfloat16"}, "Q4"),
        ({"quantization": None, "dtype": "bfloat16"}, "BF16"),
        ({}, ""),
    ],
)
def test_quantization_is_told(details: dict[str, Any], level: str) -> None:
    assert show(model("demo", **details))["details"]["quantization_level"] == level


@pytest.mark.parametrize(
    ("details", "expiry"),
    [
        ({"expires_in_s": 60.0, "keep_alive_s": 300.0}, "2026-11-22T12:01:00Z"),
        ({"keep_alive_s": 300.0}, "2026-11-22T12:05:00Z"),  # it is busy
        ({"keep_alive_s": None}, "9999-12-31T23:59:59Z"),
        ({"expires_in_s": 60.0, "pinned": True}, "9999-12-31T23:59:59Z"),
        ({"expires_in_s": 1e300}, "9999-12-31T23:59:59Z"),
    ],
)
def test_expiry_of_a_loaded_model_is_told(details: dict[str, Any], expiry: str) -> None:
    entry = process(model("demo", used_bytes=9, **details), NOON)
    assert entry is not None and (entry["expires_at"], entry["size_vram"]) == (expiry, 9)


@pytest.mark.parametrize("state", ["unloaded", "loading", "failed", "unloading"])
def test_model_that_is_not_loaded_does_not_run(state: str) -> None:
    assert process(model("demo", state), NOON) is None


def test_capabilities_have_ollamas_names() -> None:
    shown = show(
        model(
            "demo",
            capabilities=["generate", "chat", "tools", "reasoning"],
            model_type="qwen3",
            context_length=4096,
            licence="mit",
        )
    )
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert shown["model_info"]["qwen3.context_length"] == 4096
    assert shown["license"] == "mit"
