"""The host as an agent or daemon of launchd, launchctl(1)."""

from __future__ import annotations

import plistlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mlxbridge.addresses import UnixAddress
from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.files import check_ours, is_ours, make_folder, remove_file, write_file
from mlxbridge.host.service.manager import Say, Status, check_free
from mlxbridge.host.service.plist import LABEL, read_listening, render_plist
from mlxbridge.host.service.runner import CommandFailed, Finished, Runner

_POLL_S = 0.2
_RETRY_S = 1.0
_SPARE_S = 5.0  # beside the time that the host may take to end
_LOADED_ALREADY = 5  # EIO; "Bootstrap failed: 5: Input/output error"
# Of what `launchctl print` shows, the lines about the service itself; those of its parts stand further in.
_FIELD = re.compile(r"^\t(state|pid|last exit code|last terminating signal) = (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a service is known.

    Attributes:
        domain: launchd's part in which it runs, such as ``gui/501``.
        file: its property list.
        log: where its output goes.
    """

    domain: str
    file: Path
    log: Path


def agent_places(uid: int, home: Path) -> Places:
    """Of a user's own, which runs while the user is logged in at the screen."""
    library = home / "Library"
    return Places(f"gui/{uid}", library / f"LaunchAgents/{LABEL}.plist", library / "Logs/mlxbridge.log")


def daemon_places() -> Places:
    """Of the system's, which runs from the start of the machine."""
    return Places(
        "system", Path(f"/Library/LaunchDaemons/{LABEL}.plist"), Path("/Library/Logs/mlxbridge.log")
    )


class Launchd:
    """The ``Manager`` on macOS.

    A service that is loaded has its sockets, whether or not the process runs.
    """

    def __init__(self, places: Places, runner: Runner, say: Say) -> None:
        self._places = places
        self._target = f"{places.domain}/{LABEL}"
        self._runner = runner
        self._say = say

    def files(self, definition: Definition) -> Mapping[Path, bytes]:
        """See ``Manager.files``."""
        return {self._places.file: render_plist(definition, self._places.log)}

    def install(self, definition: Definition) -> None:
        """See ``Manager.install``."""
        places = self._places
        content = self.files(definition)[places.file]
        check_ours(places.file)
        self._check_domain()
        is_loaded = self._is_loaded()
        if not is_loaded:
            check_free(definition)
        self._make_folders(definition)
        is_changed = write_file(places.file, content)
        self._say(f"{places.file} is {'written' if is_changed else 'as it should be'}")
        if is_loaded and not is_changed:
            self._say("loaded already")
            return
        if is_loaded:
            self._unload()
        self._load()

    def start(self) -> None:
        """See ``Manager.start``."""
        self._check_installed()
        if self._is_loaded():
            self._launchctl("kickstart", self._target).check()
            self._say("started")
        else:
            self._load()

    def stop(self) -> None:
        """See ``Manager.stop``."""
        self._check_installed()
        if not self._is_loaded():
            self._say("not running")
            return
        self._unload()
        self._say("stopped; guests are refused until `mlxbridge-host service start`")
        self._say("Apple container's relay does not come back after that: start its containers again, too")

    def restart(self) -> None:
        """See ``Manager.restart``; launchd keeps the sockets all the while."""
        self._check_installed()
        if not self._is_loaded():
            self._load()
            return
        before = self._fields().get("pid")
        if before is not None:
            # `kickstart -k` alone would not say for how long calls may go on.
            self._launchctl("kill", "SIGTERM", self._target)
            self._wait(lambda: self._fields().get("pid") != before)
        still_there = before is not None and self._fields().get("pid") == before
        self._launchctl("kickstart", *(["-k"] if still_there else []), self._target).check()
        self._say("restarted")

    def status(self) -> Status:
        """See ``Manager.status``."""
        if not is_ours(self._places.file):
            return Status(file=self._places.file, installed=False)
        fields = self._fields()
        pid = fields.get("pid")
        return Status(
            file=self._places.file,
            installed=True,
            listening=read_listening(self._table()) if fields else (),
            pid=int(pid) if pid is not None else None,
            last_exit=_last_exit(fields),
        )

    def show_logs(self, *, lines: int, follow: bool) -> NoReturn:
        """See ``Manager.show_logs``."""
        if not self._places.log.exists():
            raise UsageError(f"there is no {self._places.log}; the service has said nothing yet")
        # -F goes on with the file that takes its place, should somebody rotate it.
        self._runner.become("tail", "-n", str(lines), *(["-F"] if follow else []), str(self._places.log))

    def uninstall(self) -> None:
        """See ``Manager.uninstall``."""
        check_ours(self._places.file)
        if self._is_loaded():
            self._unload()
        if remove_file(self._places.file):
            self._say(f"{self._places.file} is removed; the log stays: {self._places.log}")
        else:
            self._say("not installed")

    def _check_installed(self) -> None:
        if not is_ours(self._places.file):
            raise UsageError("the service is not installed; mlxbridge-host service install")

    def _check_domain(self) -> None:
        if self._launchctl("print", self._places.domain).code:
            raise UsageError(
                "nobody is logged in at this machine's screen, so it has no place for an agent: log in there, or"
                " install with --system"
            )

    def _make_folders(self, definition: Definition) -> None:
        """launchd makes no folder, neither for a socket nor for a log."""
        for owned in definition.sockets:
            if isinstance(owned.listen.address, UnixAddress):
                make_folder(Path(owned.listen.address.path).parent, owned.folder_mode, definition.user)
        make_folder(self._places.log.parent, 0o755, None)
        if definition.user is not None:
            # Or the host, who is not root, could not write to it.
            self._places.log.touch(mode=0o600)
            shutil.chown(self._places.log, definition.user)

    def _load(self) -> None:
        domain, file = self._places.domain, str(self._places.file)
        self._launchctl("enable", self._target).check()
        done = self._launchctl("bootstrap", domain, file)
        if done.code == _LOADED_ALREADY:  # it may be on its way out still
            self._wait_until_gone()
            self._runner.pause(_RETRY_S)
            done = self._launchctl("bootstrap", domain, file)
        done.check()
        self._say(f"loaded and started; {LABEL} listens on {', '.join(read_listening(self._table()))}")

    def _unload(self) -> None:
        self._launchctl("bootout", self._target).check()
        self._wait_until_gone()
        if self._is_loaded():
            raise CommandFailed(f"{self._target} is still there; look at `launchctl print {self._target}`")

    def _wait_until_gone(self) -> None:
        """``bootout`` returns at once, while the host may still be busy with calls."""
        self._wait(lambda: not self._is_loaded())

    def _wait(self, is_done: Callable[[], bool]) -> None:
        timeout_s = self._table().get("ExitTimeOut", 0) + _SPARE_S
        for _ in range(round(timeout_s / _POLL_S)):
            if is_done():
                return
            self._runner.pause(_POLL_S)

    def _is_loaded(self) -> bool:
        return self._launchctl("print", self._target).code == 0

    def _fields(self) -> dict[str, str]:
        """What launchd tells of the service; nothing if it is not loaded."""
        done = self._launchctl("print", self._target)
        return dict(_FIELD.findall(done.output)) if done.code == 0 else {}

    def _table(self) -> dict[str, Any]:
        try:
            table = plistlib.loads(self._places.file.read_bytes())
        except (OSError, plistlib.InvalidFileException):
            return {}
        return table if isinstance(table, dict) else {}

    def _launchctl(self, *words: str) -> Finished:
        return self._runner.run("launchctl", *words)


def _last_exit(fields: dict[str, str]) -> str | None:
    if signal := fields.get("last terminating signal"):
        return f"killed ({signal})"
    code = fields.get("last exit code", "")
    return f"exit status {code}" if code and "never" not in code else None
