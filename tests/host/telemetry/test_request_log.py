"""The log's line for a call, and what it keeps to itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported, WorkerLost
from mlxbridge.host.telemetry.prompt import MAX_CHARS, excerpt
from mlxbridge.host.telemetry.request_log import log_request
from mlxbridge.host.telemetry.telemetry import Telemetry


def told(
    caplog: pytest.LogCaptureFixture,
    method: str = "generate",
    params: dict[str, Any] | None = None,
    error: BridgeError | None = None,
    *,
    keeps_prompts: bool = False,
) -> logging.LogRecord:
    """The line for a call."""
    caplog.set_level(logging.DEBUG)
    telemetry = Telemetry(clock=lambda: 7.0)
    telemetry.keeps_prompts = keeps_prompts
    telemetry.listen(log_request)
    request = telemetry.begin(method, params or {}, guest="alice", owner="alice")
    telemetry.end(request, {"finish_reason": "stop"} if error is None else None, error)
    return caplog.records[-1]


def test_faults_of_the_host_are_warnings_and_looks_are_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert told(caplog).levelno == logging.INFO
    assert told(caplog, error=WorkerLost("it died")).levelno == logging.WARNING
    assert told(caplog, error=InvalidArgument("no")).levelno == logging.INFO
    assert told(caplog, "status").levelno == logging.DEBUG
    assert told(caplog, "status", error=InvalidArgument("no")).levelno == logging.INFO


def test_what_a_guest_wrote_is_told_only_if_prompts_are(caplog: pytest.LogCaptureFixture) -> None:
    params = {"prompt": "the zebra"}
    error = InvalidArgument("top_p must be below 1, not 'zebra'", details={"field": "top_p"})
    for refused in (None, error):
        record = told(caplog, params=params, error=refused)
        assert "zebra" not in f"{record.getMessage()} {record.__dict__['fields']}"
    assert record.__dict__["fields"]["field"] == "top_p" and "field 'top_p'" in record.getMessage()
    record = told(caplog, params=params, error=error, keeps_prompts=True)
    assert record.__dict__["fields"]["prompt"] == "the zebra"
    assert record.__dict__["fields"]["reason"] == error.message
    assert "prompt 'the zebra'" in record.getMessage()


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("messages[3].content", "messages[3]"),
        ('response_format.schema.properties["zebra"].not', "response_format"),
        ("top_p", "top_p"),
        ("", None),
    ],
)
def test_names_within_what_a_guest_wrote_are_told_only_with_prompts(
    caplog: pytest.LogCaptureFixture, field: str, shown: str | None
) -> None:
    error = Unsupported(f"{field} is not supported", details={"field": field})
    assert told(caplog, error=error).__dict__["fields"].get("field") == shown
    record = told(caplog, params={"prompt": "x"}, error=error, keeps_prompts=True)
    assert record.__dict__["fields"]["field"] == field


def test_guest_cannot_write_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    record = told(caplog, "made\nup", {"prompt": "a\nb"}, keeps_prompts=True)
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"prompt": "Hello"}, "Hello"),
        ({"prompt": b"\1\0\0\0\2\0\0\0"}, "<2 token ids>"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, "user Hi"),
        ({"inputs": ["a", b"\0" * 12, "b"]}, "a <3 token ids> b"),
        ({"query": "who", "documents": ["a"]}, "who a"),
        ({"token_ids": b"\0" * 8}, "<2 token ids>"),
        (
            {"requests": [{"prompt": "one"}, {"messages": [{"role": "user", "content": "two"}]}]},
            "one user two",
        ),
        ({"model": "demo"}, None),
        ({"prompt": 5, "messages": {"content": None}}, None),
    ],
)
def test_excerpt_is_what_is_asked(params: dict[str, Any], text: str | None) -> None:
    assert excerpt(params) == text


def test_excerpt_is_bounded_however_much_is_asked() -> None:
    assert excerpt({"prompt": "x" * 9999}) == "x" * MAX_CHARS
    found = excerpt({"inputs": ["abc"] * 100_000})
    assert found is not None and MAX_CHARS - 5 <= len(found) <= MAX_CHARS
    nested: Any = "deep"
    for _ in range(1000):
        nested = [nested]
    assert excerpt({"inputs": nested}) is None
