"""``mlxbridge-host`` as a shell sees it, where it refuses to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlxbridge.host", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "tcp:127.0.0.1:0"), "TCP needs a token"),
        (("--listen", "ftp:x"), "unknown scheme"),
        (("--model", "/no/such/folder"), "no model folder"),
        (("--model", "a b"), "is no model"),
        (("--model", "demo", "--draft-model", "/no/such/folder"), "no model folder"),
        (("--draft-model", "x=demo", "--draft-model", "demo"), "--draft-model: demo has two"),
        (("--token-file", "/no/such/file"), "/no/such/file"),
        (("--drain-timeout", "-1"), "drain-timeout"),
        (("--max-batch", "0"), "max-batch"),
        (("--max-waiting", "-1"), "max-waiting"),
        (("--kv-memory", "much"), "--kv-memory: 'much' is no size"),
        (("--prefix-cache", "512"), "--prefix-cache: '512' has no unit"),
        (("--kv-bits", "6"), "--kv-bits"),
        (("--kv-group-size", "64"), "--kv-group-size is for --kv-bits"),
        (("--kv-window", "0"), "kv-window"),
        (("--kv-window", "64", "--kv-sinks", "40"), "--kv-window must be at least twice --kv-sinks"),
        (("--kv-window", "64", "--kv-bits", "8"), "--kv-bits does not go with --kv-window"),
    ],
)
def test_bad_command_line_is_refused_with_a_reason(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    listen = () if "--listen" in arguments else ("--listen", f"unix:{tmp_path}/s")
    done = serve(*listen, *arguments)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_path_that_is_a_file_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_text("precious")
    done = serve("--listen", f"unix:{file}")
    assert str(file) in done.stderr
    assert done.returncode == 1
    assert file.read_text() == "precious"


def test_front_loads_no_mlx() -> None:
    code = "import sys, mlxbridge.host.daemon, mlxbridge.host.commands; print([m for m in sys.modules if m.split('.')[0] in ('mlx', 'mlx_lm', 'transformers', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
