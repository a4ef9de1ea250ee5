"""Which model a name is."""

from __future__ import annotations

from mlxbridge.model_names import find_model
from mlxbridge.types import ModelInfo

MODELS = [
    ModelInfo(name="m", state="ready", source="", details={"aliases": ["other"], "adapters": ["x"]}),
    ModelInfo(name="a+b", state="ready", source="", details={"default": True}),
]


def test_model_is_found_by_each_of_its_names() -> None:
    for name, found in (("m", "m"), ("other", "m"), ("other+x", "m"), ("a+b", "a+b")):
        model = find_model(MODELS, name)
        assert model is not None and model.name == found
    assert find_model(MODELS, "b") is None
    assert find_model(MODELS, "m+y") is find_model(MODELS, "a+b+x") is None  # there is no such adapter
    assert find_model(MODELS, None) is MODELS[1] and find_model(MODELS[:1], None) is None
