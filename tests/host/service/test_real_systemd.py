"""The service under a systemd of the test's own, by the commands that people type.

It is a user manager, which touches no service of this machine, but it takes root to give it a tree of control groups and a
/run that nobody else sees.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlxbridge import Client
from mlxbridge.guest import blocking_link

SYSTEMD = Path("/lib/systemd/systemd")
# It refuses to run on a machine that was not booted by systemd, which /run tells.
MOUNT = """\
set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mkdir -p /run/systemd/system
"""
START = """\
mkdir -p "$1"
echo $$ > "$1/cgroup.procs"
exec "$0" --user --unit=basic.target
"""
REMOVE = 'find "$0" -depth -type d -delete'


def in_own_mounts(script: str, *words: str) -> list[str]:
    """The command that runs ``script`` where what it mounts is seen by nobody else."""
    return ["unshare", "--mount", "sh", "-c", MOUNT + script, *words]


@dataclass(frozen=True)
class Machine:
    home: Path
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"unix://{self.home}/.mlxbridge/run/mlxbridge.sock"

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd="/", capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def service(self, *words: str, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "mlxbridge.host", "service", *words, code=code)

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", "--user", *words)

    def pid(self) -> int:
        return int(self.systemctl("show", "--property=MainPID", "--value", "mlxbridge.service"))

    def connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(self.url.removeprefix("unix://"))

    def answer(self) -> str:
        with Client(self.url, timeout=60, connect_timeout=60) as client:
            return client.chat("What is 27 + 15?").text

    def ping(self) -> bool:
        with Client(self.url, timeout=60, connect_timeout=60) as client:
            return client.ping(timeout=60) > 0


@pytest.fixture
def machine() -> Iterator[Machine]:
    if not SYSTEMD.exists() or not shutil.which("unshare"):
        pytest.skip("NOT RUN: this machine has no systemd")
    probe = subprocess.run(in_own_mounts(""), capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"NOT RUN: a systemd of the test's own takes root and mounts: {probe.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home, runtime = Path(folder, "home"), Path(folder, "run")
        home.mkdir()
        runtime.mkdir(mode=0o700)
        group = f"/sys/fs/cgroup/{home.parent.name}"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with (home / "log").open("w") as log:
            systemd = subprocess.Popen(
                in_own_mounts(START, str(SYSTEMD), group), env=environment, stdout=log, stderr=log
            )
        machine = Machine(home, environment)
        try:
            wait_until_up(systemd, machine)
            yield machine
        finally:
            systemd.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                systemd.wait(30)
            systemd.kill()
            systemd.wait()
            subprocess.run(in_own_mounts(REMOVE, group), capture_output=True)


def wait_until_up(systemd: subprocess.Popen[bytes], machine: Machine) -> None:
    asking = ["systemctl", "--user", "is-active", "--quiet", "basic.target"]
    deadline = time.monotonic() + 20
    while subprocess.run(asking, env=machine.environment, capture_output=True).returncode != 0:
        log = (machine.home / "log").read_text()
        assert systemd.poll() is None and time.monotonic() < deadline, f"systemd did not start:\n{log}"
        time.sleep(0.05)


def test_service_is_installed_restarted_and_removed_and_no_guest_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A host may take longer to start on a busy machine than guests wait for a HELLO.
    monkeypatch.setattr(blocking_link, "HANDSHAKE_TIMEOUT_S", 60.0)
    assert machine.service("status", code=4).startswith("not installed")
    said = machine.service("install", "--", "--model", "demo")
    assert f"started; systemd listens on unix:{machine.home}/.mlxbridge/run/mlxbridge.sock" in said
    first = machine.pid()
    assert f"running, process {first}\n" in machine.service("status")
    assert "says       listening on unix://" in machine.service("status")
    assert "42" in machine.answer()

    assert machine.service("install", "--", "--model", "demo").count(" is as it should be\n") == 2
    assert machine.pid() == first

    machine.systemctl("reload", "mlxbridge.service")
    assert machine.ping()
    assert machine.pid() == first

    with ThreadPoolExecutor() as pool:
        restarting = pool.submit(machine.service, "restart")
        while not restarting.done():
            machine.connect()
        restarting.result()
    second = machine.pid()
    assert second != first
    os.kill(second, signal.SIGKILL)
    assert machine.ping()
    assert machine.pid() != second

    machine.service("install", "--", "--model", "demo", "--max-batch", "8")
    command = Path("/proc", str(machine.pid()), "cmdline").read_bytes().split(b"\0")
    assert command[-5:-1] == [b"--max-batch", b"8", b"--listen", b"systemd"]

    machine.service("stop")
    assert machine.service("status", code=3).startswith("not running")
    assert not Path(machine.url.removeprefix("unix://")).exists()
    machine.service("start")
    assert machine.ping()

    assert machine.service("uninstall").count(" is removed\n") == 2
    assert machine.service("uninstall") == "not installed\n"
    machine.run("systemctl", "--user", "cat", "mlxbridge.service", code=1)
