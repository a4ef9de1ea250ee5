"""What systemd's programs are told, beside what ``test_real_systemd.py`` sees them do."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.service.runner import CommandFailed, Finished
from mlxbridge.host.service.systemd import Scope, Systemd, system_scope, user_scope
from tests.host.service.services import define

SHOWN = {
    "mlxbridge.service": "MainPID=0\nExecMainCode=2\nExecMainStatus=9\nStatusText=listening on unix:///x\n",
    "mlxbridge.socket": "Listen=/run/a b (Stream)\nListen=[::1]:2048 (Stream)\nListen=vsock::2048 (Stream)\n"
    "ActiveState=active\n",
}


class Became(Exception):
    """Stands for the end of this process."""


class ScriptedRunner:
    """Notes what it is to run, and answers as ``systemctl`` and ``loginctl`` would."""

    def __init__(self, *, linger: str = "no", failing: str = "nothing") -> None:
        self.commands: list[str] = []
        self._linger = linger
        self._failing = failing

    def run(self, *command: str) -> Finished:
        self.commands.append(" ".join(command))
        if self._failing in command:
            return Finished(command, 1, "", "Job failed.\nSee the log.\n")
        if "is-active" in command:
            return Finished(command, 3, "", "")
        if command[0] == "loginctl":
            return Finished(command, 0, f"{self._linger}\n", "")
        return Finished(command, 0, SHOWN[command[-1]] if "show" in command else "", "")

    def become(self, *command: str) -> NoReturn:
        self.commands.append(" ".join(command))
        raise Became

    def pause(self, seconds: float) -> None:
        raise AssertionError("nothing to wait for")


def make(scope: Scope, runner: ScriptedRunner) -> tuple[Systemd, list[str]]:
    said: list[str] = []
    return Systemd(scope, runner, said.append), said


@pytest.mark.parametrize(("user", "flag"), [("me", "--user "), (None, "")])
def test_install_enables_and_starts_both_units(tmp_path: Path, user: str | None, flag: str) -> None:
    runner = ScriptedRunner()
    service, said = make(Scope(tmp_path, user), runner)
    service.install(define("unix:/nowhere/m.sock"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlxbridge.service", "mlxbridge.socket"]
    told = [
        command for command in runner.commands if command.startswith("systemctl") and "show" not in command
    ]
    assert told == [
        f"systemctl {flag}is-active --quiet mlxbridge.socket",
        f"systemctl {flag}daemon-reload",
        f"systemctl {flag}enable mlxbridge.socket mlxbridge.service",
        f"systemctl {flag}start mlxbridge.socket mlxbridge.service",
    ]
    assert "started; systemd listens on unix:/run/a b, tcp:[::1]:2048, vsock:2048" in said
    assert any("loginctl enable-linger me" in line for line in said) == (user is not None)


def test_who_lingers_is_not_told_to(tmp_path: Path) -> None:
    service, said = make(Scope(tmp_path, "me"), ScriptedRunner(linger="yes"))
    service.install(define("unix:/nowhere/m.sock"))
    assert not any("enable-linger" in line for line in said)


def test_nothing_is_written_beside_other_people_s_units(tmp_path: Path) -> None:
    (tmp_path / "mlxbridge.service").write_text("[Service]\n")
    service, _ = make(Scope(tmp_path, None), ScriptedRunner())
    with pytest.raises(UsageError, match=r"mlxbridge\.service is there"):
        service.install(define("unix:/nowhere/m.sock"))
    assert [path.name for path in tmp_path.iterdir()] == ["mlxbridge.service"]
    for act in (service.start, service.stop, service.restart):
        with pytest.raises(UsageError, match="not installed"):
            act()


def test_status_tells_how_the_last_process_ended(tmp_path: Path) -> None:
    service, _ = make(Scope(tmp_path, None), ScriptedRunner())
    service.install(define("unix:/nowhere/m.sock"))
    status = service.status()
    assert (status.installed, status.pid, status.text) == (True, None, None)
    assert status.last_exit == "killed by signal 9"
    assert status.listening == ("unix:/run/a b", "tcp:[::1]:2048", "vsock:2048")


def test_process_that_is_not_ready_is_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = make(Scope(tmp_path, None), ScriptedRunner())
    service.install(define("unix:/nowhere/m.sock"))
    monkeypatch.setitem(SHOWN, "mlxbridge.service", "MainPID=7\nExecMainCode=0\nActiveState=activating\n")
    assert (service.status().pid, service.status().is_starting) == (7, True)
    monkeypatch.setitem(SHOWN, "mlxbridge.service", "MainPID=7\nExecMainCode=0\nActiveState=active\n")
    assert (service.status().pid, service.status().is_starting) == (7, False)


def test_nobody_is_asked_about_what_is_not_installed(tmp_path: Path) -> None:
    runner = ScriptedRunner(failing="show")  # as where systemd does not run
    service, _ = make(Scope(tmp_path, None), runner)
    assert not service.status().installed
    assert runner.commands == []
    make(Scope(tmp_path, None), ScriptedRunner())[0].install(define("unix:/nowhere/m.sock"))
    with pytest.raises(CommandFailed):
        service.status()


def test_refusal_is_told_in_systemd_s_own_words(tmp_path: Path) -> None:
    service, _ = make(Scope(tmp_path, "me"), ScriptedRunner(failing="daemon-reload"))
    with pytest.raises(
        CommandFailed, match=r"^`systemctl --user daemon-reload` failed with 1: Job failed.; See"
    ):
        service.install(define("unix:/nowhere/m.sock"))


@pytest.mark.parametrize(
    ("scope", "follow", "command"),
    [
        (user_scope("me"), True, "journalctl --user-unit=mlxbridge.service --lines=7 --follow"),
        (system_scope(), False, "journalctl --unit=mlxbridge.service --lines=7"),
    ],
)
def test_logs_are_the_journal_s(scope: Scope, follow: bool, command: str) -> None:
    runner = ScriptedRunner()
    service, _ = make(scope, runner)
    with pytest.raises(Became):
        service.show_logs(lines=7, follow=follow)
    assert runner.commands == [command]


def test_units_are_where_systemd_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert str(user_scope("me").folder) == "/home/me/.config/systemd/user"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg/me")
    assert str(user_scope("me").folder) == "/etc/xdg/me/systemd/user"
    assert str(system_scope().folder) == "/etc/systemd/system"
