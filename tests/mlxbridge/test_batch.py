"""``mlxbridge batch`` as a shell sees it, against a real host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.commands.batch import describe_unanswered
from tests.integration.hosts import HostProcess


def command(host: HostProcess, *arguments: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "mlxbridge", "batch", *arguments], {**os.environ, "MLXBRIDGE_URL": host.url}


def run(host: HostProcess, *arguments: str, stdin: bytes = b"") -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, the lines of output in order of the input's, and stderr."""
    line, environment = command(host, *arguments)
    done = subprocess.run(line, env=environment, input=stdin, capture_output=True, timeout=120)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, sorted(told, key=lambda each: int(each["line"])), done.stderr.decode()


def chat(question: str, **more: Any) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}], **more})


def test_each_line_is_answered_by_its_number(host: HostProcess, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    questions = [
        chat("What is 27 + 15?"),
        "",
        chat("What is the capital of France?", custom_id="of France"),
        json.dumps({"prompt": "The ", "max_tokens": 3, "custom_id": None}),
    ]
    file.write_text("\n".join(questions))
    status, told, stderr = run(host, str(file), "--max-tokens", "20")
    assert status == 0
    assert [each["line"] for each in told] == [1, 3, 4]
    assert told[0]["text"] == "27 + 15 = 42." and "custom_id" not in told[0]
    assert (told[1]["text"], told[1]["custom_id"]) == ("The capital of France is Paris.", "of France")
    assert told[2]["usage"]["completion_tokens"] == 3 and told[2]["custom_id"] is None
    assert told[0]["usage"]["finish_reason"] == "stop" and len(told[2]["token_ids"]) == 3
    assert re.fullmatch(r"3 of 3 done, 0 failed; \d+ tokens in \d+\.\d s, \d+ tokens/s\n", stderr)


def test_options_are_for_all_lines_and_those_of_a_line_come_first(host: HostProcess) -> None:
    lines = [json.dumps({"prompt": "The "})] * 2 + [
        json.dumps({"prompt": "The ", "seed": 7, "logprobs": None})
    ]
    flags = (
        "--temperature",
        "2",
        "--seed",
        "7",
        "--max-tokens",
        "8",
        "--logprobs",
        "1",
        "--priority",
        "high",
    )
    status, told, stderr = run(host, "-", *flags, stdin="\n".join(lines).encode())
    assert status == 0 and stderr.startswith("3 done, 0 failed")
    assert told[0]["text"] == told[2]["text"] != told[1]["text"]
    assert [token["token_id"] for token in told[0]["logprobs"]] == told[0]["token_ids"]
    assert len(told[0]["logprobs"][0]["top"]) == 1
    again = subprocess.run(
        [sys.executable, "-m", "mlxbridge", "generate", "The ", "--raw", *flags[:4], "--max-tokens", "8"],
        env={**os.environ, "MLXBRIDGE_URL": host.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.stdout == told[0]["text"] + "\n"


def test_bad_lines_fail_by_themselves(host: HostProcess) -> None:
    lines = [
        b'{"prompt": "The ", "max_tokens": 2}',
        b"{no JSON",
        b'["The "]',
        b'{"prompt": "\xff"}',
        b'{"prompt": "The ", "max_token": 2}',
        b'{"prompt": "The ", "top_p": 9, "custom_id": 5}',
        b'{"custom_id": "empty"}',
        b"[" * 100_000,
        b'{"prompt": "The ", "max_tokens": 2}',
        b'{"prompt": "The ", "\\ud800": 2}',
        b'{"prompt": "The ", "max_tokens": 2, "custom_id": "\\ud800"}',
    ]
    status, told, stderr = run(host, "-", stdin=b"\n".join(lines))
    assert status == 1
    assert [each["line"] for each in told] == list(range(1, 12))
    names = [each.get("error", {}).get("name") for each in told]
    refused = ["UsageError"]
    assert names == [None, *refused * 4, "InvalidArgument", *refused * 2, None, *refused, None]
    assert told[5]["error"]["details"]["field"] == "top_p" and told[5]["custom_id"] == 5
    assert "did you mean 'max_tokens'" in told[4]["error"]["message"]
    assert told[6]["custom_id"] == "empty"
    assert told[10]["custom_id"] == "\ud800" and told[10]["token_ids"]
    assert "11 done, 8 failed" in stderr


def test_wrong_option_is_an_error_of_the_command(host: HostProcess) -> None:
    status, told, stderr = run(host, "-", "--top-p", "9", stdin=b'{"prompt": "The "}')
    assert (status, told) == (2, [])
    assert "mlxbridge: InvalidArgument: top_p must be above 0" in stderr


@pytest.mark.parametrize("is_pipe", [False, True])
def test_timeout_is_for_the_file_and_says_which_lines_have_no_answer(
    host: HostProcess, tmp_path: Path, is_pipe: bool
) -> None:
    long = json.dumps({"prompt": "The ", "max_tokens": 1000, "ignore_eos": True})
    lines = "\n".join(['{"prompt": "The ", "max_tokens": 2}', "", long, long, "no JSON", *[long] * 600, ""])
    file = tmp_path / "in.jsonl"
    file.write_text(lines)
    given = ("-", lines.encode()) if is_pipe else (str(file), b"")
    status, told, stderr = run(host, given[0], "--timeout", "2", stdin=given[1])
    assert status == 4
    answered = {each["line"] for each in told}
    assert 5 in answered
    read = {1, 3, 4, *range(6, 515 if is_pipe else 606)}  # of a pipe 512 prompts
    shown = describe_unanswered(sorted(read - answered)) + (", nor has what follows" if is_pipe else "")
    assert re.search(rf"mlxbridge: DeadlineExceeded: .+; {shown}\n$", stderr)


def test_unanswered_lines_are_told_in_runs() -> None:
    assert describe_unanswered([9]) == "line 9 has no answer"
    assert describe_unanswered([3, 4, 5, 9, 11, 12]) == "lines 3-5, 9, 11-12 have no answer"


def test_file_that_is_not_there_is_named(host: HostProcess) -> None:
    status, told, stderr = run(host, "nowhere.jsonl")
    assert (status, told) == (2, [])
    assert stderr == "mlxbridge: FileNotFoundError: nowhere.jsonl: No such file or directory\n"


def test_empty_input_is_done_at_once(host: HostProcess) -> None:
    status, told, stderr = run(host, "-")
    assert (status, told) == (0, [])
    assert re.fullmatch(r"0 done, 0 failed; 0 tokens in \d\.\d s, 0 tokens/s\n", stderr)


def test_stdin_is_read_from_where_it_is(host: HostProcess, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    head = "the file's own first line\n"
    file.write_text(head + json.dumps({"prompt": "The ", "max_tokens": 2}) + "\n")
    line, environment = command(host, "-")
    with file.open("rb", buffering=0) as stdin:
        stdin.read(len(head))
        done = subprocess.run(line, env=environment, stdin=stdin, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stderr.startswith(b"1 of 1 done, 0 failed")
    assert [json.loads(each)["line"] for each in done.stdout.splitlines()] == [1]


def test_interrupt_leaves_whole_lines_and_frees_the_host(host: HostProcess, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    line = json.dumps({"prompt": "The ", "max_tokens": 2})
    long = json.dumps({"prompt": "The ", "max_tokens": 1000, "ignore_eos": True})
    file.write_text("\n".join([line, *[long] * 20]))
    arguments, environment = command(host, str(file))
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["line"] == 1
        process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest == "" and stderr.startswith("1 of 21 done")
    with host.client() as client:
        while client.status().models[0].details["running"]:
            pass


def test_progress_is_shown_on_a_terminal(host: HostProcess) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    arguments, environment = command(host, "-")
    lines = "\n".join(json.dumps({"prompt": "The ", "max_tokens": 2 + 8 * number}) for number in range(40))
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with os.fdopen(theirs, "wb") as stderr:
            done = subprocess.run(
                arguments,
                env=environment,
                input=lines.encode(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                timeout=120,
            )
        shown = terminal.read(1 << 16).decode()
    assert done.returncode == 0
    assert shown.endswith("\x1b[K\r\n") and "40 done, 0 failed" in shown
