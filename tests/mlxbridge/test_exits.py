"""How commands end: statuses, and errors for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxbridge.cli import main
from mlxbridge.commands.exits import EXPLAINED, Exit, describe_failure, exit_of, report
from mlxbridge.errors import (
    BY_CODE,
    BridgeError,
    ConnectionLost,
    ContextTooLong,
    DeadlineExceeded,
    HostNotFound,
    InvalidArgument,
    ModelNotFound,
    Overloaded,
    RemoteError,
    Unsupported,
    UsageError,
    WorkerLost,
)
from tests.helpers.terminal import CTRL_C, Terminal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 2),
        (InvalidArgument("x"), 2),
        (Unsupported("x"), 2),
        (ModelNotFound("x"), 2),
        (ContextTooLong("x"), 1),
        (HostNotFound("x"), 3),
        (ConnectionLost("x"), 3),
        (DeadlineExceeded("x"), 4),
        (Overloaded("x"), 5),
        (WorkerLost("x"), 5),
        (RemoteError("x", retryable=True), 5),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (FileNotFoundError(2, "No such file or directory", "x"), 2),
        (OSError(28, "No space left on device"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_status_says_what_kind_of_error_it_was(error: BaseException, status: int) -> None:
    assert exit_of(error) == status


@pytest.mark.parametrize("text", [EXPLAINED, (ROOT / "guest/README.md").read_text()])
def test_every_status_is_explained(text: str) -> None:
    explained = {
        int(words[0])
        for line in text.splitlines()
        if (words := line.strip("| ").split()) and words[0].isdigit()
    }
    assert set(Exit) <= explained


def test_error_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    error: BridgeError = InvalidArgument("top_p: no", details={"field": "top_p"})
    error.add_note("of lines 1-3")
    assert report(error, as_json=True) == 2
    told = {
        "name": "InvalidArgument",
        "message": "top_p: no; of lines 1-3",
        "retryable": False,
        "details": {"field": "top_p"},
    }
    said = capsys.readouterr()
    assert (said.out, json.loads(said.err)) == ("", {"error": told})


def run(*arguments: str, script: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a shell, as ``$mlxbridge``, without a host."""
    line = script or f"$mlxbridge {' '.join(arguments)}"
    return subprocess.run(
        ["bash", "-c", line],
        env={
            **os.environ,
            "mlxbridge": f"{sys.executable} -m mlxbridge",
            "MLXBRIDGE_URL": "unix:///nowhere/m.sock",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_command_line_that_cannot_be_read_is_an_error_like_others() -> None:
    done = run("generate", "--bogus", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["name"]) == (2, "UsageError")
    assert "required: prompt; - is the text on stdin (mlxbridge generate --help explains)" in error["message"]


def test_command_line_alone_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    said = capsys.readouterr()
    assert "generate" in said.out and EXPLAINED in said.out and said.err == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("generat hi", "there is no 'generat'; did you mean 'generate'? (mlxbridge --help"),
        (
            "generate hi --temprature 3",
            "--temprature 3; did you mean '--temperature'? (mlxbridge generate --help",
        ),
        ("embed --modle=finder x", "--modle=finder; did you mean '--model'? (mlxbridge embed --help"),
        (
            "generate hi --priority hihg",
            "argument --priority: there is no 'hihg'; did you mean 'high'? (mlxbridge",
        ),
        ("generate hi --zzz", "unrecognized arguments: --zzz (mlxbridge generate --help"),
        ("zzz", "argument COMMAND: invalid choice: 'zzz' (choose from"),
        ("--verison", "--verison; did you mean '--version'? (mlxbridge --help"),
        ("--json", "--json; options of a command stand behind it (mlxbridge --help"),
        ("--url tcp://x:1 ping", "--url; options of a command stand behind it (mlxbridge --help"),
        ("gateway --lisen 1", "--lisen; did you mean '--listen'? (mlxbridge gateway --help"),
        ("embed", "required: text; - is a text a line from stdin (mlxbridge embed --help"),
    ],
)
def test_what_may_have_been_meant_is_said(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("$mlxbridge generate - <&-", 2, "UsageError: -: stdin is closed\n"),
        ("$mlxbridge generate - </dev/null", 2, "UsageError: -: there is nothing on stdin\n"),
        (
            r"printf 'a\xff' | $mlxbridge generate -",
            2,
            "UsageError: stdin is no UTF-8 (invalid start byte)\n",
        ),
        ("$mlxbridge ping 2>&-", 3, ""),
        (
            "$mlxbridge ping -v --timeout 0",
            2,
            "timeout: must be a number of seconds above 0, or None, not 0.0\n",
        ),
    ],
)
def test_what_is_wrong_with_the_streams_is_told_in_a_line(script: str, status: int, message: str) -> None:
    done = run(script=script)
    assert done.returncode == status
    assert done.stderr.endswith(message) and done.stderr.count("\n") <= 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["ping"], ["ping", "--json"]], ids=" ".join)
def test_status_stands_though_nobody_reads_what_is_said(arguments: list[str]) -> None:
    unread, stderr = os.pipe()
    os.close(unread)
    command = [sys.executable, "-m", "mlxbridge", *arguments, "--url", "unix:///nowhere/m.sock"]
    try:
        assert subprocess.run(command, stderr=stderr, timeout=120).returncode == 3
    finally:
        os.close(stderr)


def test_screen_that_is_watched_waits_for_a_host(tmp_path: Path) -> None:
    terminal = Terminal("status", "--watch", "0.1", "--url", "unix:///nowhere/m.sock", state=tmp_path)
    try:
        for _ in range(2):
            terminal.wait_for("\033[H\033[J")
            terminal.wait_for("cannot connect to unix:///nowhere/m.sock")
        assert terminal.leave(CTRL_C) == 130
    finally:
        terminal.kill()
    done = run("status", "--watch", "0.1")
    assert done.returncode == 3 and done.stderr.count("\n") == 1


def test_advice_is_for_the_command_line() -> None:
    for kind in BY_CODE.values():
        told = describe_failure(kind("it tripped"))
        assert "()" not in told and "=" not in told, told
    assert describe_failure(DeadlineExceeded("late")) == "DeadlineExceeded: late (give a larger --timeout)"


def test_error_of_the_system_has_its_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["batch", "/nowhere/prompts.jsonl"])
    missing = "/nowhere/prompts.jsonl: No such file or directory"
    assert capsys.readouterr().err == f"mlxbridge: FileNotFoundError: {missing}\n"
    with pytest.raises(SystemExit):
        main(["batch", "/nowhere/prompts.jsonl", "--json"])
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["name"], told["message"]) == ("FileNotFoundError", missing)
