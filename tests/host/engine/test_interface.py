"""What an engine may be told to take on."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.engine.interface import EngineLimits

NUMBERS = [field.name for field in fields(EngineLimits) if str(field.type).startswith("int")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, True, 1.5, "8"], ids=repr)
def test_limit_that_is_no_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be a whole number") as caught:
        EngineLimits(**{name: value})
    assert isinstance(caught.value, ValueError) and caught.value.details == {"field": name}


@pytest.mark.parametrize("name", ["max_batch", "kv_bytes", "expected_tokens", "prefill_chunk"])
def test_limit_that_lets_nothing_run_is_refused(name: str) -> None:
    values: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=f"{name} must be a whole number from 1, not 0"):
        EngineLimits(**values)
    values[name] = 1
    EngineLimits(**values)


@pytest.mark.parametrize("name", ["max_batch", "max_waiting", "expected_tokens", "prefill_chunk"])
def test_only_what_the_device_decides_may_be_left_open(name: str) -> None:
    limits: dict[str, Any] = {name: None}
    with pytest.raises(UsageError, match=name):
        EngineLimits(**limits)
    EngineLimits(kv_bytes=None, prefix_cache_bytes=None)


def test_nothing_waits_and_nothing_is_kept_is_sense() -> None:
    EngineLimits(max_waiting=0, prefix_cache_bytes=0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prefix_disk_bytes": 1}, "prefix_disk_folder"),
        ({"prefix_disk_bytes": 1, "prefix_disk_folder": "x", "prefix_cache_bytes": 0}, "prefix_disk_bytes"),
    ],
)
def test_disk_without_what_it_needs_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match="need") as caught:
        EngineLimits(**values)
    assert caught.value.details == {"field": field}
