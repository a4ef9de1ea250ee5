from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.keep_alive import parse_keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        ("0", 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("45s", 45.0),
        ("30m", 1800.0),
        (" 30M ", 1800.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        (-1, None),
        (-1.0, None),
        ("-1", None),
    ],
)
def test_time_is_in_seconds_or_with_units_and_minus_one_is_for_ever(
    value: Any, seconds: float | None
) -> None:
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        -2,
        10**400,
        "-5m",
        "soon",
        "",
        "30 minutes",
        "m",
        "5w",
        True,
        None,
        [],
        b"30m",
        float("nan"),
        float("inf"),
        "nan",
    ],
)
def test_what_is_no_time_is_refused_with_what_would_be_right(value: Any) -> None:
    with pytest.raises(UsageError, match="^keep_alive: .*30m") as caught:
        parse_keep_alive(value)
    assert caught.value.details == {"field": "keep_alive"}
