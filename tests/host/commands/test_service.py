from __future__ import annotations

import importlib
import os
import pwd
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlxbridge.host.commands import cli
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.manager import Status
from mlxbridge.host.service.runner import CommandFailed

ME = pwd.getpwuid(os.getuid()).pw_name


class NotedManager:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.definitions: list[Definition] = []
        self.answer: Status | Exception = Status(file=Path("/units/mlxbridge.service"), installed=False)

    def install(self, definition: Definition) -> None:
        self.definitions.append(definition)

    def files(self, definition: Definition) -> dict[Path, bytes]:
        return {Path("/units/a"): b"one\ntwo\n", Path("/units/b"): shlex.join(definition.command).encode()}

    def status(self) -> Status:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NotedManager:
    noted = NotedManager()
    # The package has the group of commands under the module's name.
    module = importlib.import_module("mlxbridge.host.commands.service")
    monkeypatch.setattr(module, "_manager", lambda system: noted)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return noted


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["service", *words])


def test_install_turns_listen_into_sockets_and_leaves_the_other_options(
    manager: NotedManager, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-good-secret\n")
    tokens.chmod(0o600)
    options = ["--max-batch", "8", "--token-file", str(tokens)]
    done = run(
        "install", "--", "--listen", f"unix:{tmp_path}/new/m.sock", *options, "--listen", "tcp:127.0.0.1:2048"
    )
    assert done.exit_code == 0, done.output
    assert "it runs as `" in done.output
    (definition,) = manager.definitions
    assert definition.command[:4] == (sys.executable, "-m", "mlxbridge.host", "serve")
    assert sorted(definition.command[4:]) == sorted(options)
    unix, tcp = definition.sockets
    assert (str(unix.listen), unix.folder_mode) == (f"unix:{tmp_path}/new/m.sock?mode=0666", 0o700)
    assert str(tcp.listen) == "tcp:127.0.0.1:2048"
    assert definition.stop_timeout_s == 45
    assert definition.user is None


def test_install_without_options_has_the_usual_socket(manager: NotedManager, tmp_path: Path) -> None:
    assert run("install").exit_code == 0
    (socket,) = manager.definitions[0].sockets
    assert str(socket.listen) == f"unix:{tmp_path}/.mlxbridge/run/mlxbridge.sock?mode=0666"
    assert run("install", "--", "--drain-timeout", "0.5").exit_code == 0
    assert manager.definitions[1].stop_timeout_s == 16


def test_configuration_is_taken_along(manager: NotedManager, tmp_path: Path) -> None:
    file = tmp_path / "config/mlxbridge/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('listen = ["vsock:2048"]\ndrain_timeout = 60\nmax_bach = 8\n')
    done = run("install")
    assert done.exit_code == 1
    assert "config.toml:3: max_bach" in done.output
    file.write_text('listen = ["vsock:2048"]\ndrain_timeout = 60\n')
    assert run("install", "--", "--max-batch", "8").exit_code == 0
    (definition,) = manager.definitions
    assert definition.command[3:] == ("serve", "--config", str(file), "--max-batch", "8")
    assert [str(socket.listen) for socket in definition.sockets] == ["vsock:2048"]
    assert definition.stop_timeout_s == 75


def test_service_of_the_system_is_for_those_who_have_its_folder_mounted(manager: NotedManager) -> None:
    assert run("install", "--system", "--user", ME).exit_code == 0
    (definition,) = manager.definitions
    assert definition.user == ME
    (socket,) = definition.sockets
    assert (str(socket.listen), socket.folder_mode) == ("unix:/run/mlxbridge/mlxbridge.sock?mode=0660", 0o755)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["install", "--user", ME], "--user: only a service of the system runs as somebody else"),
        (["install", "--system"], "--user: say whom the service is to run as"),
        (["install", "--system", "--user", "nobody-of-that-name"], "there is no user nobody-of-that-name"),
        (["install", "--", "--listen", "systemd"], "name the socket itself"),
        (["install", "--", "--max-bach", "8"], "--max-bach"),
        (["install", "--", "--max-batch", "0"], "--max-batch"),
        (["install", "--", "--listen", "tcp:127.0.0.1:2048"], "TCP needs a token"),
    ],
)
def test_what_cannot_be_is_refused(
    manager: NotedManager, monkeypatch: pytest.MonkeyPatch, words: list[str], problem: str
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    done = run(*words)
    assert done.exit_code != 0
    assert problem in done.output
    assert manager.definitions == []


@pytest.mark.parametrize("verb", ["install", "start", "stop", "restart", "uninstall"])
def test_what_changes_the_system_is_for_root(
    manager: NotedManager, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = run(verb, "--system")
    assert (done.exit_code, done.output) == (1, "Error: --system: this is for root; run it with sudo\n")
    assert run("status", "--system").exit_code == 4


def test_who_called_sudo_is_whom_the_service_runs_as(
    manager: NotedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", ME)
    assert run("install", "--system").exit_code == 0
    assert manager.definitions[0].user == ME


def test_dry_run_shows_the_files_and_needs_no_root(
    manager: NotedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in ((), ("--system", "--user", ME)):
        done = run("install", *words, "--dry-run", "--", "--max-batch", "8")
        assert done.exit_code == 0
        assert done.output.startswith("/units/a:\n    one\n    two\n\n/units/b:\n    ")
        assert "serve --max-batch 8" in done.output
    assert manager.definitions == []


def test_service_manager_that_does_not_say_is_neither_yes_nor_no(manager: NotedManager) -> None:
    manager.answer = CommandFailed("`systemctl show` failed with 1: Failed to connect to bus")
    done = run("status")
    assert (done.exit_code, done.output) == (1, f"Error: {manager.answer}\n")


def test_status_shows_what_is_known_and_says_so_by_its_exit_status(manager: NotedManager) -> None:
    done = run("status")
    assert (done.exit_code, done.output) == (4, "not installed; mlxbridge-host service install\n")
    file = Path("/units/mlxbridge.service")
    manager.answer = Status(file=file, installed=True, last_exit="exit status 1")
    done = run("status")
    assert done.exit_code == 3
    assert done.output.splitlines() == [
        "not running",
        "  installed  /units/mlxbridge.service",
        "  listening  nowhere",
        "  last exit  exit status 1",
    ]
    manager.answer = Status(file=file, installed=True, pid=7, is_starting=True)
    assert run("status").output.startswith("starting, process 7\n")
    manager.answer = Status(file=file, installed=True, pid=7, listening=("unix:/x", "vsock:1"), text="ready")
    done = run("status")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "running, process 7",
        "  installed  /units/mlxbridge.service",
        "  listening  unix:/x, vsock:1",
        "  says       ready",
    ]
