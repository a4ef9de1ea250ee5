from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxbridge.errors import ModelNotFound
from mlxbridge.host.models.store import (
    CachedModel,
    delete_cached,
    list_cached,
    list_pulled,
    mark_pulled,
    pull,
)
from tests.helpers.hub import Hub, Repository

FILES = {"config.json": b"{}", "tokenizer.json": b"[]", "model.safetensors": b"x" * 1000}


def test_cache_that_is_not_there_has_no_models(cache: Path) -> None:
    assert list_cached() == []


def test_models_are_listed_with_their_size_and_deleted_with_all_that_is_theirs(
    serve: Callable[..., Hub], cache: Path
) -> None:
    serve(org__name=Repository(files=FILES), org__other=Repository(files=FILES))
    pull("org/name")
    pull("org/other")
    begun = cache / "models--org--begun" / "blobs"
    begun.mkdir(parents=True)
    (begun / "abc.mlxbridge.incomplete").write_bytes(b"y" * 10)
    (cache / "datasets--org--name").mkdir()
    named = {model.hub_id: model for model in list_cached()}
    assert list(named) == ["org/begun", "org/name", "org/other"]
    assert named["org/begun"] == CachedModel(hub_id="org/begun", disk_bytes=10, is_complete=False)
    assert named["org/name"].is_complete
    assert named["org/name"].disk_bytes >= 1004
    assert delete_cached("org/name") == named["org/name"].disk_bytes
    assert [model.hub_id for model in list_cached()] == ["org/begun", "org/other"]
    with pytest.raises(ModelNotFound, match="org/name is not in"):
        delete_cached("org/name")


def test_what_guests_pulled_stands_in_the_cache_until_it_is_deleted(
    serve: Callable[..., Hub], cache: Path
) -> None:
    serve(**{f"org__{name}": Repository(files=FILES) for name in ("name", "found", "begun")})
    for name in ("org/name", "org/found", "org/begun"):
        pull(name)
    assert list_pulled() == {}
    assert mark_pulled("org/name", was_here=False)
    assert mark_pulled("org/name", was_here=True)  # once more
    assert not mark_pulled("org/found", was_here=True)
    assert mark_pulled("org/begun", was_here=False)
    (weights,) = cache.glob("models--org--begun/snapshots/*/model.safetensors")
    weights.unlink()
    assert list_pulled() == {"org/found": False, "org/name": True}
    delete_cached("org/name")
    pull("org/name")
    assert list_pulled() == {"org/found": False}
