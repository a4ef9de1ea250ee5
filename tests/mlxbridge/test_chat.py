"""``mlxbridge chat`` as a person sees it at a terminal, and as a pipe does, against a real host."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxbridge.commands.chat.entry import read_message
from mlxbridge.commands.chat.history import MOST_ENTRIES, HistoryFile
from mlxbridge.commands.chat.settings import parse_setting
from mlxbridge.errors import UsageError
from tests.helpers.command_line import run
from tests.helpers.terminal import CTRL_C, WITH, WITHOUT, Terminal
from tests.integration.hosts import HostProcess

UP, CTRL_A, CTRL_E, ALT_ENTER = "\x1b[A", "\x01", "\x05", "\x1b\r"
Start = Callable[..., "Terminal"]


@pytest.fixture
def start(host: HostProcess, tmp_path: Path) -> Iterator[Start]:
    """Starts a chat, whose state is in ``tmp_path``."""
    started: list[Terminal] = []

    def start(*arguments: str, toolkit: str = WITHOUT) -> Terminal:
        started.append(Terminal("chat", "--url", host.url, *arguments, state=tmp_path, toolkit=toolkit))
        started[-1].wait_for(">")
        return started[-1]

    yield start
    for terminal in started:
        terminal.kill()


def wait_until_idle(host: HostProcess) -> None:
    deadline = time.monotonic() + 30
    with host.client() as client:
        while client.status().calls:
            assert time.monotonic() < deadline, "the call goes on"
            time.sleep(0.02)


@pytest.mark.parametrize("command", [["generate", "What is 27 + 15?"], ["chat"]])
def test_a_terminal_shows_that_the_model_is_being_loaded(
    host: HostProcess, tmp_path: Path, command: list[str]
) -> None:
    with host.client() as client:
        client.unload_model("demo")
    terminal = Terminal(*command, "--url", host.url, state=tmp_path)
    try:
        terminal.wait_for("demo: loading")
        terminal.wait_for("27 + 15 = 42." if len(command) > 1 else "> ")
    finally:
        terminal.kill()


def test_terminal_obeys_no_model(host: HostProcess, tmp_path: Path) -> None:
    command = ["generate", "Hello", "--regex", r"\x1b\[2J-\x1b\[5m\."]
    terminal = Terminal(*command, "--url", host.url, state=tmp_path)
    try:
        assert terminal.wait_for(".").endswith(r"\x1b[2J-\x1b[5m.")
    finally:
        terminal.kill()
    assert run(host, *command).stdout == "\x1b[2J-\x1b[5m.\n"  # which is for a program to judge


def test_chat_at_a_terminal(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("readline")
    terminal = start()
    assert "Nice to meet you, Ada!" in terminal.type("My name is Ada.\r", "tokens/s> ")
    assert "Your name is Ada." in terminal.type("What is my name?\r", "tokens/s> ")
    again = terminal.type(f"{UP}\r", "tokens/s> ")
    assert "What is my name?\nYour name is Ada." in again
    assert re.search(r"demo, \d+ tokens/s> $", again)
    terminal.type("What is \\\r", "... ")
    terminal.type("1 + 1?\r", "tokens/s> ")
    assert "there is no top_q; there are" in terminal.type("/set top_q 1\r")
    assert "invalid float value: 'x'" in terminal.type("/set temperature x\r")
    terminal.type("/set max_tokens 3\r")
    assert "max_tokens 3" in terminal.type("/set\r")
    terminal.type("/unset max-tokens\r")
    assert "is not set" in terminal.type("/unset max_tokens\r")
    assert "InvalidArgument: top_p must be above 0" in terminal.type("/set top_p 9\r")
    assert "is not set" in terminal.type("/unset top_p\r")
    assert "* demo  ready  generate, 1.8M parameters" in terminal.type("/model\r")
    assert "ModelNotFound: this host has no model 'nope'" in terminal.type("/model nope\r")
    terminal.type("/model demo\r", "demo> ")
    terminal.type(f"/save {tmp_path}/talk.json\r", "(8 messages")
    assert terminal.leave("/exit\r") == 0
    saved = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [message["content"] for message in saved if message["role"] == "user"] == [
        "My name is Ada.",
        "What is my name?",
        "What is my name?",
        "What is \n1 + 1?",
    ]


def test_ctrl_c_stops_the_answer_not_the_program(start: Start, host: HostProcess, tmp_path: Path) -> None:
    terminal = start("--min-tokens", "800", "--no-history")
    said = terminal.type("Count from 1 to 20.\r", "5, 6")
    said += terminal.type(f"{CTRL_C}{CTRL_C}", "(stopped)\n")
    wait_until_idle(host)
    terminal.wait_for("> ")
    terminal.type("/unset min_tokens\r")
    terminal.type(f"/save {tmp_path}/talk.json\r", "(2 messages")
    question, answer = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert question["content"] == "Count from 1 to 20."
    assert answer["role"] == "assistant" and answer["content"].startswith("1, 2, 3, 4, 5, 6")
    assert answer["content"].startswith(re.findall(r"[\d, ]*\d", said)[-1])
    assert "Nice to meet you, Ada!" in terminal.type("My name is Ada.\r", "tokens/s> ")
    terminal.type("a line that is not sent", "sent")
    assert "(Ctrl-D ends the chat)" in terminal.interrupt("chat)")
    terminal.wait_for("> ")
    assert terminal.leave() == 0
    assert not list(tmp_path.glob("mlxbridge"))


def test_later_chats_have_the_lines_of_earlier_ones(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("readline")
    HistoryFile(str(tmp_path / "mlxbridge" / "chat_history")).add("What is\n27 + 15?")
    terminal = start()
    assert "27 + 15 = 42." in terminal.type(f"{UP}{CTRL_A}What is {CTRL_E}\r", "tokens/s> ")
    assert terminal.leave() == 0


def test_chat_with_prompt_toolkit(start: Start, host: HostProcess, tmp_path: Path) -> None:
    pytest.importorskip("prompt_toolkit", reason="prompt-toolkit is not installed")
    terminal = start(toolkit=WITH)
    terminal.type(f"What is{ALT_ENTER}", "...")
    terminal.type("27 + 15?\r", "tokens/s>")
    terminal.type(UP, "15?")
    terminal.type("\r", "tokens/s>")
    terminal.type("/set min_tokens 600\r", "600")
    terminal.type("Count from 1 to 20.\r", "5, 6")
    terminal.type(CTRL_C, "(stopped)")
    wait_until_idle(host)
    assert terminal.leave("/exit\r") == 0
    assert HistoryFile(str(tmp_path / "mlxbridge" / "chat_history")).read()[0] == "What is\n27 + 15?"


def test_chat_from_a_pipe_prints_answers_alone(host: HostProcess, tmp_path: Path) -> None:
    lines = [
        "My name is Ada.",
        '"""What is',
        'my name?"""',
        "/undo",
        "What is my name?",
        f"/save {tmp_path}/x",
    ]
    done = run(host, "chat", "--system", "Hi.", stdin="\n".join([*lines, "/reset", "What is my name?"]))
    first, _, second, third = done.stdout.splitlines()
    assert (first, second) == ("Nice to meet you, Ada!", "Your name is Ada.")
    assert "Ada" not in third and done.returncode == 0
    saved = json.loads((tmp_path / "x").read_text())["messages"]
    assert [message["role"] for message in saved] == ["system", *["user", "assistant"] * 2]
    done = run(host, "chat", "--load", str(tmp_path / "x"), "--json", stdin="What is my name?\n")
    assert json.loads(done.stdout)["text"] == "Your name is Ada." and done.stderr == ""


def test_conversation_of_others_may_lack_what_ours_has(host: HostProcess, tmp_path: Path) -> None:
    for message in ({"role": "system"}, {"role": "assistant", "tool_calls": 5}):
        (tmp_path / "talk.json").write_text(json.dumps({"messages": [message]}))
        done = run(host, "chat", "--load", str(tmp_path / "talk.json"), stdin="/system\nHello\n")
        assert done.returncode == 2 and "InvalidArgument: messages[0]." in done.stderr


def test_error_ends_a_chat_from_a_pipe(host: HostProcess) -> None:
    done = run(host, "chat", stdin="/set temperature -1\nHello\nHello\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mlxbridge: InvalidArgument: temperature") and done.stderr.count("\n") == 1
    assert run(None, "chat", stdin="Hello\n").returncode == 3


def test_ctrl_c_ends_a_chat_from_a_pipe(host: HostProcess) -> None:
    command = [sys.executable, "-m", "mlxbridge", "chat", "--url", host.url, "--min-tokens", "800"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("Count from 1 to 20.\n")
        process.stdin.flush()
        assert process.stdout.read(1) == "1"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    wait_until_idle(host)


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (["a", "b"], ["a", "b"]),
        (["a\\", "b\\", "c", "d"], ["a\nb\nc", "d"]),
        (["a\\"], ["a\n"]),
        (['"""a"""', "b"], ["a", "b"]),
        (['"""', "a", "", '  b"""', "c"], ["a\n\n  b", "c"]),
        (['"""a', "b"], ["a\nb"]),
        (['"""a\\', 'b"""'], ["a\\\nb"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_messages_of_several_lines(lines: list[str], messages: list[str]) -> None:
    left = iter(lines)
    found = []
    while (message := read_message("> ", lambda prompt: next(left, None))) is not None:
        found.append(message)
    assert found == messages


def test_history_is_for_its_owner_and_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "state" / "chat_history"
    history = HistoryFile(str(path))
    assert history.read() == []
    history.add("é\nb")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("a") as file:
        file.write("no JSON\n[1]\n" + '"x"\n' * 2 * MOST_ENTRIES)
    assert history.read() == ["x"] * MOST_ENTRIES
    assert len(path.read_text().splitlines()) == MOST_ENTRIES
    HistoryFile(None).add("x")
    HistoryFile("/proc/nowhere/x").add("x")
    assert HistoryFile(None).read() == HistoryFile("/proc/nowhere/x").read() == []


def test_settings_are_those_of_the_command_line() -> None:
    assert parse_setting("top-p", "0.5") == {"top_p": 0.5}
    assert parse_setting("max_tokens", "3") == {"max_tokens": 3}
    assert parse_setting("stop", "a b") == {"stop": ["a b"]}
    assert parse_setting("temperature", "-1") == {"temperature": -1.0}, "for the host to refuse"
    for name, value, message in (
        ("top", "1", "there is no top;"),
        ("priority", "x", "priority: invalid choice"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_setting(name, value)
