"""What a gateway is told, by options and by environment variables."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from mlxbridge.commands import gateway as commands
from mlxbridge.guest.gateway.callers import add_caller, make_key
from tests.guest.gateway.gateways import run_gateway
from tests.helpers.command_line import run
from tests.integration.hosts import HostProcess


def refusal(*options: str, **variables: str) -> str:
    """What a gateway says that does not start."""
    environment = {f"MLXBRIDGE_GATEWAY_{key}": value for key, value in variables.items()}
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with patch.dict(os.environ, environment), patch.object(commands, "start_logging"):
        found = run(None, "gateway", "--listen", "127.0.0.1:0", *options)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    assert found.returncode == 2
    return found.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--listen", "0.0.0.0"], "http://0.0.0.0:8000: whoever reaches the port could use the models"),
        (["--listen", "vsock:3"], "HTTP is spoken over TCP and unix sockets"),
        (
            ["--cors-origin", "app.example"],
            "--cors-origin: origin 'app.example': must be a scheme and a host",
        ),
        (["--max-body", "0"], "--max-body: must be a whole number above 0, not '0'"),
        (["--max-body", "1e6"], "--max-body: must be a whole number above 0"),
        (["--timeout", "nan"], "--timeout: must be a number from 0"),
        (["--drain-timeout", "-1"], "--drain-timeout: must be a number from 0"),
        (["--url", "http://somewhere"], "unknown scheme 'http'"),
        (["--keys", "/nowhere/keys"], "cannot read /nowhere/keys"),
    ],
)
def test_option_that_is_wrong_is_named(options: list[str], told: str) -> None:
    assert told in refusal(*options)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "CORS_ORIGIN",
            "https://one.example two.example",
            "origin 'two.example': must be a scheme and a host",
        ),
        ("ALLOW_ANYONE", "maybe", "must be one of 1, true, yes, 0, false, no, not 'maybe'"),
        ("MAX_BODY", "much", "must be a whole number above 0, not 'much'"),
        ("TIMEOUT", "0", "must be a number above 0, not '0'"),
        ("LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'"),
    ],
)
def test_variable_that_is_wrong_is_named(name: str, value: str, told: str) -> None:
    assert f"MLXBRIDGE_GATEWAY_{name}: {told}" in refusal(**{name: value})


def test_variables_are_options(host: HostProcess, tmp_path: Path) -> None:
    key, digest = make_key()
    add_caller(tmp_path / "keys.toml", "alice", digest)
    variables = {
        "KEYS": str(tmp_path / "keys.toml"),
        "MAX_BODY": "100",
        "CORS_ORIGIN": "https://one.example HTTPS://two.example:443",
        "LOG_FORMAT": "json",
        "TIMEOUT": "",  # as if it were not set
    }
    with run_gateway(
        host.url, env={f"MLXBRIDGE_GATEWAY_{name}": text for name, text in variables.items()}
    ) as own:
        assert own.read_log().startswith("{")
        assert httpx.get(f"{own.url}/v1/models").status_code == 401
        headers = {"x-api-key": key, "origin": "https://two.example"}
        models = httpx.get(f"{own.url}/v1/models", headers=headers)
        assert models.status_code == 200
        assert models.headers["access-control-allow-origin"] == "https://two.example"
        body = {"model": "demo", "prompt": "x" * 200}
        assert httpx.post(f"{own.url}/v1/completions", json=body, headers=headers).status_code == 413


def test_option_wins_over_its_variable(host: HostProcess) -> None:
    with run_gateway(host.url, "--log-format", "human", env={"MLXBRIDGE_GATEWAY_LOG_FORMAT": "json"}) as own:
        assert not own.read_log().startswith("{")
