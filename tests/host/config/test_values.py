from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.host.config.values import check_name, parse_size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("0", 0),
        (0, 0),
        ("0GB", 0),
        ("512MB", 512 << 20),
        ("512 MiB", 512 << 20),
        ("8GB", 8 << 30),
        ("8g", 8 << 30),
        ("1.5GB", 3 << 29),
        ("64kb", 64 << 10),
        ("2TB", 2 << 40),
    ],
)
def test_size_is_in_powers_of_1024(value: Any, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    ["", "8", 8, "-1GB", "8 apples", "GB", "1e9", "1,5GB", "99999TB", "8GBB", "٣GB", True, None, ["8GB"]],
)
def test_bad_size_is_refused_with_what_would_be_right(value: Any) -> None:
    with pytest.raises(ValueError, match="; give a size such as 512MB or 8GB; powers of 1024$"):
        parse_size(value)


@pytest.mark.parametrize("name", ["demo", "org/name", "gpt-4o", "Qwen 3", "é"])
def test_name_is_any_printable_text(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 201, "base+adapter"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name|adapter"):
        check_name(name)
