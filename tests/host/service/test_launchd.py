"""The service on launchd, with the fake launchctl of ``fake_launchctl.py`` on PATH."""

from __future__ import annotations

import json
import os
import plistlib
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.launchd import Launchd, agent_places, daemon_places
from mlxbridge.host.service.runner import CommandFailed
from tests.host.service.services import HurriedRunner, define

STOP_TIMEOUT_S = 1
TARGET = f"gui/{os.getuid()}/dev.mlxbridge.daemon"


class Mac:
    """A home, a fake launchd, and the service in them."""

    def __init__(self, home: Path) -> None:
        self.places = agent_places(os.getuid(), home)
        self.socket = home / ".mlxbridge/run/mlxbridge.sock"
        self.said: list[str] = []
        self.runner = HurriedRunner()
        self.service = Launchd(self.places, self.runner, self.said.append)
        self._state = Path(os.environ["FAKE_LAUNCHD"])

    def define(self, *options: str) -> Definition:
        return define(f"unix:{self.socket}", options=options, stop_timeout_s=STOP_TIMEOUT_S)

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._state.read_text())
        return state

    def change(self, **values: Any) -> None:
        old = self.state if self._state.exists() else {}
        self._state.write_text(json.dumps(old | values))

    def commands(self) -> list[str]:
        """What was run since the last time, without looks."""
        commands = [command for command in self.state["commands"] if not command.startswith("print ")]
        self.change(commands=[])
        return commands


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        programs = Path(folder, "bin")
        programs.mkdir()
        fake = Path(__file__).with_name("fake_launchctl.py")
        (programs / "launchctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{fake}" "$@"\n')
        (programs / "launchctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_LAUNCHD", f"{folder}/state.json")
        yield Mac(Path(folder, "home"))


@pytest.fixture
def installed(mac: Mac) -> Mac:
    mac.service.install(mac.define())
    mac.commands()
    mac.said.clear()
    return mac


def test_install_makes_what_launchd_does_not_and_loads_the_agent(mac: Mac) -> None:
    mac.service.install(mac.define("--model", "demo"))
    assert stat.S_IMODE(mac.socket.parent.stat().st_mode) == 0o700
    assert mac.places.log.parent.is_dir()
    assert mac.places.file.parts[-3:] == ("Library", "LaunchAgents", "dev.mlxbridge.daemon.plist")
    assert stat.S_IMODE(mac.places.file.stat().st_mode) == 0o644
    table = plistlib.loads(mac.places.file.read_bytes())
    assert table["ProgramArguments"][-4:] == ["--model", "demo", "--listen", "launchd:bridge"]
    assert mac.commands() == [f"enable {TARGET}", f"bootstrap gui/{os.getuid()} {mac.places.file}"]
    assert mac.said == [
        f"{mac.places.file} is written",
        f"loaded and started; dev.mlxbridge.daemon listens on unix:{mac.socket}",
    ]


def test_install_again_does_nothing(installed: Mac) -> None:
    installed.service.install(installed.define())
    assert installed.commands() == []
    assert installed.said == [f"{installed.places.file} is as it should be", "loaded already"]


def test_install_with_other_options_loads_the_agent_anew(installed: Mac) -> None:
    installed.service.install(installed.define("--max-batch", "8"))
    assert [command.split()[0] for command in installed.commands()] == ["bootout", "enable", "bootstrap"]
    assert "--max-batch" in plistlib.loads(installed.places.file.read_bytes())["ProgramArguments"]
    assert installed.state["loaded"] == TARGET


def test_other_people_s_files_are_left_alone(mac: Mac) -> None:
    mac.places.file.parent.mkdir(parents=True)
    mac.places.file.write_text("<plist/>")
    with pytest.raises(UsageError, match="did not write it; move it away first"):
        mac.service.install(mac.define())
    with pytest.raises(UsageError, match="did not write it; move it away first"):
        mac.service.uninstall()
    assert mac.places.file.read_text() == "<plist/>"
    with pytest.raises(UsageError, match="not installed"):
        mac.service.start()


def test_host_that_listens_already_is_not_pushed_aside(mac: Mac) -> None:
    mac.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(mac.socket))
        sock.listen()
        with pytest.raises(UsageError, match=r"listens on unix:///.* already; stop it first"):
            mac.service.install(mac.define())
    assert not mac.places.file.exists()


def test_without_anybody_at_the_screen_it_is_said_what_to_do(mac: Mac) -> None:
    mac.change(domains=["system"])
    with pytest.raises(UsageError, match="log in there, or install with --system"):
        mac.service.install(mac.define())
    assert not mac.places.file.exists()


def test_bootstrap_is_tried_again_once(installed: Mac) -> None:
    """A service can be on its way out still when launchd does not show it any more."""
    installed.service.stop()
    installed.commands()
    installed.change(busy=1)
    installed.service.start()
    assert [command.split()[0] for command in installed.commands()] == ["enable", "bootstrap", "bootstrap"]
    installed.service.stop()
    installed.change(busy=2)
    with pytest.raises(
        CommandFailed, match=r"`launchctl bootstrap gui/.* failed with 5: Bootstrap failed: 5"
    ):
        installed.service.start()


def test_stop_takes_the_service_out_and_start_brings_it_back(installed: Mac) -> None:
    installed.service.stop()
    assert installed.commands() == [f"bootout {TARGET}"]
    assert installed.state["loaded"] is None
    assert "Apple container" in installed.said[-1]
    installed.service.stop()
    assert installed.said[-1] == "not running"
    installed.service.start()
    assert [command.split()[0] for command in installed.commands()] == ["enable", "bootstrap"]
    installed.service.start()
    assert installed.commands() == [f"kickstart {TARGET}"]


def test_restart_lets_calls_end_and_never_takes_the_service_out(installed: Mac) -> None:
    before = installed.state["pid"]
    installed.service.restart()
    assert installed.commands() == [f"kill SIGTERM {TARGET}", f"kickstart {TARGET}"]
    assert installed.state["pid"] == before + 1


def test_restart_kills_a_host_that_does_not_end(installed: Mac) -> None:
    installed.change(stubborn=True)
    installed.service.restart()
    assert installed.commands() == [f"kill SIGTERM {TARGET}", f"kickstart -k {TARGET}"]
    assert installed.runner.num_pauses == pytest.approx((STOP_TIMEOUT_S + 5) / 0.2, abs=2)


def test_restart_of_what_is_stopped_starts_it(installed: Mac) -> None:
    installed.service.stop()
    installed.service.restart()
    assert installed.state["loaded"] == TARGET


def test_status_tells_the_service_from_its_parts(installed: Mac) -> None:
    status = installed.service.status()
    assert status.installed
    assert status.pid == installed.state["pid"]
    assert status.listening == (f"unix:{installed.socket}",)
    assert status.last_exit is None
    installed.change(pid=None, last_exit="9")
    status = installed.service.status()
    assert status.pid is None
    assert status.listening == (f"unix:{installed.socket}",)
    assert status.last_exit == "exit status 9"


def test_status_of_what_is_not_there(mac: Mac) -> None:
    status = mac.service.status()
    assert (status.installed, status.pid, status.listening) == (False, None, ())
    mac.service.install(mac.define())
    mac.service.stop()
    status = mac.service.status()
    assert (status.installed, status.pid, status.listening) == (True, None, ())


def test_uninstall_leaves_nothing_but_the_log(installed: Mac) -> None:
    installed.places.log.write_text("a line\n")
    installed.service.uninstall()
    assert not installed.places.file.exists()
    assert installed.places.log.exists()
    assert installed.state["loaded"] is None
    installed.service.uninstall()
    assert installed.said[-1] == "not installed"


def test_launchd_that_does_not_let_go_is_reported(installed: Mac) -> None:
    installed.change(looks=10_000)
    with pytest.raises(CommandFailed, match="is still there; look at `launchctl print"):
        installed.service.stop()


def test_logs_follow_the_file_that_takes_the_log_s_place(installed: Mac) -> None:
    with pytest.raises(UsageError, match="has said nothing yet"):
        installed.service.show_logs(lines=5, follow=True)
    installed.places.log.write_text("a line\n")
    became: list[tuple[str, ...]] = []
    installed.runner.become = lambda *command: became.append(command)  # type: ignore[method-assign,assignment]
    installed.service.show_logs(lines=5, follow=True)
    installed.service.show_logs(lines=5, follow=False)
    log = str(installed.places.log)
    assert became == [("tail", "-n", "5", "-F", log), ("tail", "-n", "5", log)]


def test_daemon_is_the_system_s() -> None:
    places = daemon_places()
    assert places.domain == "system"
    assert str(places.file) == "/Library/LaunchDaemons/dev.mlxbridge.daemon.plist"
    assert str(places.log) == "/Library/Logs/mlxbridge.log"
