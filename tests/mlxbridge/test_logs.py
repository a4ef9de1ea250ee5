"""Log lines for programs and for people."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from types import ModuleType

import pytest

from mlxbridge.logs import HumanFormatter, JsonFormatter, add_to_all, adopt_library, fields

FORGED = "odd\n12:00:00 ERROR   forged\r\x1b[2J\x9b2J\x85\u2028end"


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


def test_no_text_can_look_like_a_line_of_its_own_or_move_the_cursor() -> None:
    told = line(**fields(reason=FORGED))
    assert told["reason"] == FORGED  # as it was, for who reads it
    record = logging.LogRecord("mlxbridge.x", logging.WARNING, "f.py", 1, "it is %s", (FORGED,), None)
    for form in (HumanFormatter(), JsonFormatter()):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", form.format(record))
    first, *more = HumanFormatter().format(record).split("\n")
    assert first.endswith("WARNING it is odd")
    assert more == ["    12:00:00 ERROR   forged\\u000d\\u001b[2J\\u009b2J\\u0085\\u2028end"]


def test_lines_of_an_exception_are_indented() -> None:
    try:
        raise ValueError("inside\n12:00:00 ERROR   forged")
    except ValueError:
        record = logging.LogRecord("mlxbridge.x", logging.ERROR, "f.py", 1, "broke", (), sys.exc_info())
    first, *more = HumanFormatter().format(record).split("\n")
    assert first.endswith("ERROR   broke")
    assert more[-1] == "    12:00:00 ERROR   forged" and all(each.startswith("    ") for each in more)


def test_library_that_writes_its_own_lines_leaves_them_to_us(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stated = "import logging, sys\nlogger = logging.getLogger(__name__.partition('.')[0])\n"
    stated += "logger.addHandler(logging.StreamHandler(sys.stderr))\nlogger.propagate = False\n"
    library = ModuleType("noisy")
    exec(stated, library.__dict__)
    monkeypatch.setitem(sys.modules, "noisy", library)
    library.logger.warning("before")
    adopt_library("noisy")
    library.logger.warning("after")
    assert capsys.readouterr().err == "before\n"
    assert caplog.messages == ["after"]


def test_warnings_and_the_error_that_ends_a_process_are_lines_like_others() -> None:
    code = """
import logging, warnings
from mlxbridge.logs import start_logging
start_logging(logging.INFO, "json")
warnings.warn("odd")
raise ValueError("broke")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    warned, ended = map(json.loads, done.stderr.splitlines())
    assert done.returncode == 1
    assert warned["level"] == "warning" and "odd" in warned["message"]
    assert ended["level"] == "critical" and "ValueError: broke" in ended["exception"]
