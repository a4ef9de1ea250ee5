"""``mlxbridge gateway check``: what a container's health check says of a real gateway."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from mlxbridge.commands.exits import Exit
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.helpers.command_line import run


def check(*options: str) -> subprocess.CompletedProcess[str]:
    return run(None, "gateway", "check", *options)


def port_of(gateway: GatewayProcess) -> str:
    return gateway.url.rpartition(":")[2]


@pytest.mark.parametrize("options", [[], ["--ready"]])
def test_one_that_is_well(gateway: GatewayProcess, options: list[str]) -> None:
    done = check("--listen", f"0.0.0.0:{port_of(gateway)}", "--timeout", "60", *options)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, "", "")


def test_where_it_listens_may_be_in_its_environment(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXBRIDGE_GATEWAY_LISTEN", f"127.0.0.1:{port_of(gateway)} unix:/nowhere")
    assert check("--timeout", "60").returncode == Exit.OK


def test_one_without_a_host_lives_but_is_not_ready(tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/http"
    with run_gateway(f"unix://{tmp_path}/none", "--listen", path):
        assert check("--listen", path, "--timeout", "60").returncode == Exit.OK
        done = check("--listen", path, "--timeout", "60", "--ready")
    assert done.returncode == Exit.BUSY
    assert "/readyz is 503: " in done.stderr


def test_nobody_listens(tmp_path: Path) -> None:
    done = check("--listen", f"unix:{tmp_path}/none")
    assert done.returncode == Exit.NO_HOST
    assert "no gateway answers" in done.stderr


def test_one_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = check("--listen", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2")
    assert done.returncode == Exit.TIMED_OUT
