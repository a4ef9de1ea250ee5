"""Limits from a HELLO, and the windows a guest may give."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.errors import RemoteProtocolError, UsageError
from mlxbridge.protocol import Limits, Windows

NAMES = [field.name for field in fields(Limits)]
LEAST = {
    "max_head_bytes": 65_536,
    "max_piece_bytes": 4096,
    "max_payload_bytes": 0,
    "max_calls": 1,
    "max_unacked_frames": 8,
}


def test_limits_survive_the_wire() -> None:
    limits = Limits(**{name: least + 1 for name, least in LEAST.items()})
    assert Limits.from_wire(limits.to_wire()) == limits


def test_missing_limits_take_the_defaults_and_unknown_ones_are_ignored() -> None:
    assert Limits.from_wire({"max_dreams": 3, "max_calls": None}) == Limits()


@pytest.mark.parametrize("name", NAMES)
def test_limit_at_its_minimum_is_taken_and_below_it_refused(name: str) -> None:
    assert getattr(Limits.from_wire({name: LEAST[name]}), name) == LEAST[name]
    with pytest.raises(RemoteProtocolError, match=name):
        Limits.from_wire({name: LEAST[name] - 1})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [True, 1e6, "65536", b"65536", [65536], {}])
def test_limit_that_is_not_a_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=name):
        Limits.from_wire({name: value})


@pytest.mark.parametrize("value", [None, 1, "x", [1]])
def test_limits_that_are_not_a_map_are_refused(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="limits must be a map"):
        Limits.from_wire(value)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers() | st.floats() | st.none() | st.text()))
def test_any_limits_are_taken_or_refused(value: dict[str, Any]) -> None:
    try:
        limits = Limits.from_wire(value)
    except RemoteProtocolError:
        return
    assert all(getattr(limits, name) >= least for name, least in LEAST.items())


@pytest.mark.parametrize("window", [{"items": -1}, {"bytes": -1}, {"items": 1 << 63}, {"bytes": 1 << 63}])
def test_windows_that_no_host_takes_are_refused(window: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Windows(**window)
