"""The host as a user's or the system's service of systemd, systemctl(1)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.files import check_ours, is_ours, remove_file, write_file
from mlxbridge.host.service.manager import Say, Status, check_free
from mlxbridge.host.service.runner import Finished, Runner
from mlxbridge.host.service.units import SERVICE_UNIT, SOCKET_UNIT, render_service_unit, render_socket_unit

_UNITS = (SOCKET_UNIT, SERVICE_UNIT)
_STATUS = ("ActiveState", "MainPID", "ExecMainCode", "ExecMainStatus", "StatusText")
_EXITED = "1"  # CLD_EXITED, waitid(2)
_LISTEN = re.compile(r"(.+) \(Stream\)")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose service it is.

    Attributes:
        folder: of its units.
        user: who has to stay logged in for it; None for the system's.
    """

    folder: Path
    user: str | None

    @property
    def words(self) -> tuple[str, ...]:
        """What ``systemctl`` is to be told."""
        return () if self.user is None else ("--user",)


def user_scope(user: str) -> Scope:
    """Of a user's own, which runs while the user is logged in, or lingers."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return Scope(folder / "systemd/user", user)


def system_scope() -> Scope:
    """Of the system's."""
    return Scope(Path("/etc/systemd/system"), None)


class Systemd:
    """The ``Manager`` on Linux."""

    def __init__(self, scope: Scope, runner: Runner, say: Say) -> None:
        self._scope = scope
        self._socket_file = scope.folder / SOCKET_UNIT
        self._service_file = scope.folder / SERVICE_UNIT
        self._runner = runner
        self._say = say

    def files(self, definition: Definition) -> Mapping[Path, bytes]:
        """See ``Manager.files``."""
        return {
            self._socket_file: render_socket_unit(definition).encode(),
            self._service_file: render_service_unit(definition).encode(),
        }

    def install(self, definition: Definition) -> None:
        """See ``Manager.install``."""
        contents = self.files(definition)
        for file in contents:
            check_ours(file)
        was_listening = self._is_active(SOCKET_UNIT)
        if not was_listening:
            check_free(definition)
        changed = [file for file, text in contents.items() if write_file(file, text)]
        for file in contents:
            self._say(f"{file} is {'written' if file in changed else 'as it should be'}")
        self._systemctl("daemon-reload").check()
        self._systemctl("enable", *_UNITS).check()
        if changed and was_listening:
            self._systemctl("stop", *_UNITS).check()
        self._start()
        self._say_how_long()

    def start(self) -> None:
        """See ``Manager.start``."""
        self._check_installed()
        self._start()

    def stop(self) -> None:
        """See ``Manager.stop``; of the service alone systemd would start it again for the next guest."""
        self._check_installed()
        self._systemctl("stop", *_UNITS).check()
        self._say("stopped; guests are refused until `mlxbridge-host service start`")

    def restart(self) -> None:
        """See ``Manager.restart``; the sockets are a unit of their own."""
        self._check_installed()
        self._systemctl("restart", SERVICE_UNIT).check()
        self._say("restarted")

    def status(self) -> Status:
        """See ``Manager.status``."""
        if not (is_ours(self._service_file) and is_ours(self._socket_file)):
            return Status(file=self._service_file, installed=False)
        shown = self._show(SERVICE_UNIT, *_STATUS)
        pid = int(shown.get("MainPID", "0"))
        return Status(
            file=self._service_file,
            installed=True,
            listening=self._listening(),
            pid=pid or None,
            is_starting=shown.get("ActiveState") == "activating",
            last_exit=_last_exit(shown),
            text=shown.get("StatusText") or None if pid else None,
        )

    def show_logs(self, *, lines: int, follow: bool) -> NoReturn:
        """See ``Manager.show_logs``."""
        unit = f"--unit={SERVICE_UNIT}" if self._scope.user is None else f"--user-unit={SERVICE_UNIT}"
        self._runner.become("journalctl", unit, f"--lines={lines}", *(["--follow"] if follow else []))

    def uninstall(self) -> None:
        """See ``Manager.uninstall``."""
        files = (self._service_file, self._socket_file)
        for file in files:
            check_ours(file)
        if not any(file.exists() for file in files):
            self._say("not installed")
            return
        self._systemctl("disable", "--now", *_UNITS).check()
        for file in files:
            if remove_file(file):
                self._say(f"{file} is removed")
        self._systemctl("daemon-reload").check()
        self._say("the journal keeps the log")

    def _start(self) -> None:
        self._systemctl("start", *_UNITS).check()
        self._say(f"started; systemd listens on {', '.join(self._listening())}")

    def _check_installed(self) -> None:
        if not (is_ours(self._service_file) and is_ours(self._socket_file)):
            raise UsageError("the service is not installed; mlxbridge-host service install")

    def _say_how_long(self) -> None:
        user = self._scope.user
        if user is None:
            return
        done = self._runner.run("loginctl", "show-user", user, "--property=Linger", "--value")
        if done.output.strip() != "yes":
            self._say(
                f"it runs while {user} is logged in; to run it from the start of the machine on: loginctl"
                f" enable-linger {user}"
            )

    def _listening(self) -> tuple[str, ...]:
        shown = self._show(SOCKET_UNIT, "ActiveState", "Listen")
        if shown.get("ActiveState") != "active":
            return ()
        return tuple(_as_listen(place) for place in _LISTEN.findall(shown.get("Listen", "")))

    def _is_active(self, unit: str) -> bool:
        return self._systemctl("is-active", "--quiet", unit).code == 0

    def _show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit by name; of one that comes several times all values, a line each."""
        done = self._systemctl("show", f"--property={','.join(properties)}", unit).check()
        shown: dict[str, str] = {}
        for line in done.output.splitlines():
            name, _, value = line.partition("=")
            shown[name] = f"{shown[name]}\n{value}" if name in shown else value
        return shown

    def _systemctl(self, *words: str) -> Finished:
        return self._runner.run("systemctl", *self._scope.words, *words)


def _as_listen(place: str) -> str:
    """A place as ``--listen`` has it."""
    if place.startswith("vsock:"):
        return place.replace("vsock::", "vsock:").replace("vsock:4294967295:", "vsock:")
    return f"unix:{place}" if place.startswith("/") else f"tcp:{place}"


def _last_exit(shown: dict[str, str]) -> str | None:
    code, status = shown.get("ExecMainCode", "0"), shown.get("ExecMainStatus", "")
    if code == "0":
        return None
    return f"exit status {status}" if code == _EXITED else f"killed by signal {status}"
