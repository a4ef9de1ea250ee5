from __future__ import annotations

import tomllib
from typing import Any

import pytest

from mlxbridge.host.config.toml import write_value


@pytest.mark.parametrize(
    "value",
    [
        True,
        0,
        -1.5,
        1e300,
        'a "quoted" \\ \n \x00 \x7f é 🙂 line',
        [],
        ["a", ["b"]],
        {},
        {"a": 1, "odd name": {"b": [True]}, 'with "quotes"': 2},
    ],
)
def test_value_is_read_as_it_was_written(value: Any) -> None:
    assert tomllib.loads(f"x = {write_value(value)}") == {"x": value}
