"""``mlxbridge --completion``, tried in the shells that this machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from mlxbridge.cli import main


def script_for(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(["--completion", shell])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mlxbridge gen", ["generate"]),
        ("mlxbridge --com", ["--completion"]),
        ("mlxbridge --completion ", ["bash", "zsh", "fish"]),
        ("mlxbridge generate --pri", ["--priority"]),
        ("mlxbridge generate --priority ", ["high", "normal", "low"]),
        ("mlxbridge generate hi --priority l", ["low"]),
        ("mlxbridge embed --dtype float1", ["float16"]),
        (
            "mlxbridge ping -",
            ["-h", "--help", "--url", "--timeout", "--json", "-c", "--count", "-v", "--verbose"],
        ),
        ("mlxbridge status --watch --js", ["--json"]),  # a value may be left out
        ("mlxbridge gateway k", ["key"]),
        ("mlxbridge chat --load ", []),  # files, which bash knows
        ("mlxbridge chat --system -", []),
        ("mlxbridge batch ", []),
        ("mlxbridge nothing --", []),
    ],
)
def test_bash_completes(line: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    script = script_for("bash", capsys)
    script += f"COMP_WORDS=({line.rstrip()}{' ' + chr(39) * 2 if line.endswith(' ') else ''})\n"
    script += "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_mlxbridge\n"
    script += "printf '%s\\n' \"${COMPREPLY[@]}\"\ncomplete -p mlxbridge\n"
    done = subprocess.run(["bash", "-u", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    *found, registered = done.stdout.splitlines()
    assert [word for word in found if word] == words
    assert registered == "complete -o default -F _mlxbridge mlxbridge"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_it_and_have_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = script_for(shell, capsys)
    for word in ("generate", "gateway", "key", "high normal low", "watch", "completion"):
        assert word in script
    if (path := shutil.which(shell)) is not None:
        done = subprocess.run([path, "-n", "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_it_is_what_the_command_line_prints() -> None:
    command = [sys.executable, "-m", "mlxbridge", "--completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith("_mlxbridge mlxbridge\n")
