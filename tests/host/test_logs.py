"""Log lines for programs."""

from __future__ import annotations

import json
import logging
import re
import sys

import pytest

from mlxbridge.host.logs import JsonFormatter, add_to_all, fields


def line(**extra: object) -> dict[str, object]:
    record = logging.LogRecord("mlxbridge.x", logging.WARNING, "f.py", 1, "told %s\nit", ("you",), None)
    record.__dict__.update(extra)
    written = JsonFormatter().format(record)
    assert "\n" not in written
    read: dict[str, object] = json.loads(written)
    return read


def test_line_is_one_object_with_the_fields_that_are_known() -> None:
    told = line(**fields(model="démo", code=27, guest=None))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(told.pop("time")))
    assert isinstance(told.pop("process"), int)
    assert told == {
        "level": "warning",
        "logger": "mlxbridge.x",
        "message": "told you\nit",
        "model": "démo",
        "code": 27,
    }


def test_exceptions_and_what_all_lines_say_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonFormatter, "common", {})
    add_to_all(model="demo")
    try:
        raise ValueError("inside")
    except ValueError:
        told = line(exc_info=sys.exc_info())
    assert told["model"] == "demo"
    assert "ValueError: inside" in str(told["exception"])
