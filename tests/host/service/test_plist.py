"""Property lists against golden files, which plistlib reads as launchd would."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.host.service.plist import read_listening, render_plist
from tests.host.service.services import GOLDEN, define

AGENT = define(options=("--config", "/Users/me/Library/Application Support/mlxbridge/config.toml"))
DAEMON = define(
    "unix:/Users/me/.mlxbridge/run/mlxbridge.sock",
    "tcp:127.0.0.1:2048",
    user="me",
    options=("--model", "demo", "--token-file", "/Users/me/tokens & more"),
)
LOGS = {"agent": Path("/Users/me/Library/Logs/mlxbridge.log"), "daemon": Path("/Library/Logs/mlxbridge.log")}


@pytest.mark.parametrize(("name", "definition"), [("agent", AGENT), ("daemon", DAEMON)])
def test_plist_is_the_golden_one(name: str, definition: Definition) -> None:
    assert render_plist(definition, LOGS[name]) == (GOLDEN / f"{name}.plist").read_bytes()


def test_agent_has_what_launchd_needs_and_no_more() -> None:
    table = plistlib.loads((GOLDEN / "agent.plist").read_bytes())
    assert table == {
        "Label": "dev.mlxbridge.daemon",
        "ProgramArguments": [*AGENT.command, "--listen", "launchd:bridge"],
        "Sockets": {
            "bridge": {
                "SockPathName": "/Users/me/.mlxbridge/run/mlxbridge.sock",
                "SockPathMode": 438,  # 0666, in decimal
            }
        },
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 45,
        "ProcessType": "Interactive",
        "StandardOutPath": "/Users/me/Library/Logs/mlxbridge.log",
        "StandardErrorPath": "/Users/me/Library/Logs/mlxbridge.log",
    }


def test_daemon_differs_by_its_user_its_log_and_its_sockets() -> None:
    agent, daemon = (plistlib.loads((GOLDEN / f"{name}.plist").read_bytes()) for name in ("agent", "daemon"))
    assert daemon.keys() - agent.keys() == {"UserName"}
    assert daemon["UserName"] == "me"
    assert daemon["Sockets"]["bridge"] == [
        agent["Sockets"]["bridge"],
        {"SockNodeName": "127.0.0.1", "SockServiceName": "2048"},
    ]
    assert "/Users/me/tokens & more" in daemon["ProgramArguments"]


def test_sockets_are_read_as_listen_has_them() -> None:
    table = plistlib.loads((GOLDEN / "daemon.plist").read_bytes())
    assert read_listening(table) == ("unix:/Users/me/.mlxbridge/run/mlxbridge.sock", "tcp:127.0.0.1:2048")
    assert read_listening({}) == ()


@pytest.mark.parametrize(
    ("listen", "problem"),
    [("vsock:2048", "only the VM monitor answer vsock"), ("tcp:127.0.0.1:0", "needs the number of a port")],
)
def test_socket_that_launchd_cannot_make_is_refused(listen: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        render_plist(define(listen), LOGS["agent"])


@pytest.mark.parametrize(
    "definition",
    [
        define(options=("--config", "/Users/me/\x07")),
        define(options=("--config", "/Users/me/\udcff")),
        define("unix:/Users/me/a\tb.sock"),
    ],
)
def test_word_that_a_property_list_cannot_have_is_refused(definition: Definition) -> None:
    with pytest.raises(UsageError, match="cannot stand in a property list; use a plain name"):
        render_plist(definition, LOGS["agent"])
