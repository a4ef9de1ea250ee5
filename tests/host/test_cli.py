"""``mlxbridge-host`` as a shell sees it, where no host runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlxbridge.host.commands import cli


def run(*arguments: str, **environment: str) -> Result:
    """What needs no process of its own."""
    return CliRunner().invoke(cli, arguments, env=environment)


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlxbridge.host", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


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
        (("--kv-group-size", "64"), "--kv-group-size: is for --kv-bits"),
        (("--kv-window", "0"), "kv-window"),
        (("--kv-window", "64", "--kv-sinks", "40"), "--kv-window: must be at least twice --kv-sinks"),
        (("--kv-window", "64", "--kv-bits", "8"), "--kv-bits: does not go with --kv-window"),
    ],
)
def test_bad_command_line_is_refused_with_a_reason(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    listen = () if "--listen" in arguments else ("--listen", f"unix:{tmp_path}/s")
    done = run("serve", *listen, *arguments)
    assert message in done.stderr
    assert done.exit_code == 2


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


def test_variable_does_what_the_option_does_and_the_option_wins(tmp_path: Path) -> None:
    bad = {"MLXBRIDGE_HOST_KV_MEMORY": "much"}
    done = run("config", "show", **bad)
    assert "MLXBRIDGE_HOST_KV_MEMORY: 'much' is no size" in done.stderr
    done = run("config", "show", "--kv-memory", "8GB", XDG_CONFIG_HOME=str(tmp_path), **bad)
    assert 'defaults.kv_memory = "8GB"  # --kv-memory\n' in done.stdout
    listens = {"MLXBRIDGE_HOST_LISTEN": "unix:/a unix:/b", "MLXBRIDGE_HOST_ALLOW_PULL": "1"}
    shown = run("config", "show", **listens).stdout
    assert 'listen = ["unix:/a", "unix:/b"]  # MLXBRIDGE_HOST_LISTEN\n' in shown
    assert "allow_pull = true  # MLXBRIDGE_HOST_ALLOW_PULL\n" in shown


def test_file_is_written_checked_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "mlxbridge" / "config.toml"
    usual = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert "mlxbridge-host init writes one" in run("config", "check", **usual).stderr
    assert run("init", **usual).stdout.startswith(f"{file} is written")
    done = run("config", "check", **usual)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file} is good\n")
    written = file.read_text()
    again = run("init", **usual)
    assert (again.exit_code, file.read_text()) == (1, written)
    assert "--force replaces it" in again.stderr
    file.write_text("max_bach = 3\n[defaults]\nmax_batch = 9\n[models.demo]\nalias = []\n")
    done = run("config", "check", "--config", str(file))
    assert done.exit_code == 1 and done.stderr == run("config", "check", str(file)).stderr
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["models.demo.alias", "max_bach"]
    assert run("init", "--force", "--config", str(file)).exit_code == 0
    assert file.read_text() == written
    file.write_text("[defaults]\nmax_batch = 9\n[models.demo]\npin = true\n")
    shown = run("config", "show", MLXBRIDGE_HOST_CONFIG=str(file)).stdout
    assert f"defaults.max_batch = 9  # {file}:2\n" in shown
    assert f"models.demo.pin = true  # {file}:4\n" in shown


def test_file_that_is_wrong_or_missing_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    assert f"cannot read {file}" in serve("--config", str(file)).stderr
    file.write_text("[defaults]\nmax_bach = 3\n")
    done = serve("--config", str(file))
    assert done.returncode == 2
    assert f"{file}:2: defaults.max_bach: there is no such key; did you mean max_batch?" in done.stderr
