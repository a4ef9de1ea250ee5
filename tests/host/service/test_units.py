"""Units against golden files, which systemd itself finds no fault with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.units import quote, render_service_unit, render_socket_unit
from tests.host.service.services import GOLDEN, define

USER = define("unix:/home/me/.mlxbridge/run/mlxbridge.sock", options=("--model", "/home/me/50% of $HOME"))
SYSTEM = define(
    "unix:/run/mlxbridge/mlxbridge.sock?mode=0660",
    "tcp:[::1]:2048",
    "vsock:2048",
    "vsock://1:2049",
    user="me",
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NOT RUN: this machine has no systemd-analyze"
)


@pytest.mark.parametrize(("name", "definition"), [("user", USER), ("system", SYSTEM)])
def test_units_are_the_golden_ones(name: str, definition: Definition) -> None:
    assert render_socket_unit(definition) == (GOLDEN / name / "mlxbridge.socket").read_text()
    assert render_service_unit(definition) == (GOLDEN / name / "mlxbridge.service").read_text()


@needs_systemd
@pytest.mark.parametrize(("name", "flag"), [("user", "--user"), ("system", "--system")])
def test_systemd_finds_no_fault_with_the_units(name: str, flag: str, tmp_path: Path) -> None:
    for unit in (GOLDEN / name).iterdir():
        # It looks whether the program is there.
        text = unit.read_text().replace("/opt/mlxbridge/bin/python", sys.executable)
        (tmp_path / unit.name).write_text(text)
    verify = ["systemd-analyze", flag, "--man=no", "verify", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(
        verify,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    complaints = [line for line in done.stderr.splitlines() if "mlxbridge" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


@needs_systemd
def test_systemd_does_find_faults(tmp_path: Path) -> None:
    """Lest the test above pass whatever the units say."""
    unit = tmp_path / "mlxbridge.socket"
    unit.write_text("[Socket]\nListenStream=nowhere\nSocketMde=0666\n")
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert "SocketMde" in done.stderr


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--model", "--model"),
        ("/opt/a-b/c.d_e@f+g=h:i,j", "/opt/a-b/c.d_e@f+g=h:i,j"),
        ("two words", '"two words"'),
        ("", '""'),
        (";", '";"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('"\\', None),
        ('\\"', '"\\\\\\""'),
        ("a\nb", None),
        ("naïve", '"naïve"'),
    ],
)
def test_words_are_quoted_for_systemd(word: str, quoted: str | None) -> None:
    if quoted is not None:
        assert quote(word) == quoted
    else:
        with pytest.raises(UsageError, match="cannot stand in a systemd unit"):
            quote(word)


@pytest.mark.parametrize(
    ("listens", "problem"),
    [
        (["tcp:localhost:2048"], "needs an IP address and the number of a port"),
        (["tcp:127.0.0.1:0"], "needs an IP address and the number of a port"),
        (["vsock:0"], "needs the number of a port"),
        (["unix:/nowhere/a?mode=0600", "unix:/nowhere/b?mode=0660"], "one mode for all of its unix sockets"),
        (["unix:/nowhere/a?mode=0666", "unix:/nowhere/b"], "one mode for all of its unix sockets"),
        (["unix:/a\\"], "cannot stand in a systemd unit"),
        (["unix:/a ?mode=0666"], "cannot stand in a systemd unit"),
    ],
)
def test_socket_that_systemd_cannot_make_is_refused(listens: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        render_socket_unit(define(*listens))
