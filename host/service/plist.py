"""The property list that describes the host to launchd, launchd.plist(5)."""

from __future__ import annotations

import plistlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import MARK, Definition

LABEL = "dev.mlxbridge.daemon"
SOCKETS = "bridge"
"""The key of the host's sockets."""
_RESTART_DELAY_S = 10


def render_plist(definition: Definition, log: Path) -> bytes:
    """The property list of an agent, or of a daemon if ``definition`` has a user.

    Args:
        log: where the host's output is appended.

    Raises:
        UsageError: launchd cannot make one of the sockets, or a word or a path cannot stand in a property list.
    """
    sockets = [_socket(owned.listen) for owned in definition.sockets]
    table = {
        "Label": LABEL,
        "ProgramArguments": [*definition.command, "--listen", f"launchd:{SOCKETS}"],
        "Sockets": {SOCKETS: sockets if len(sockets) > 1 else sockets[0]},
        "RunAtLoad": True,
        # After a crash, but not after an end that somebody asked for.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _RESTART_DELAY_S,
        "ExitTimeOut": definition.stop_timeout_s,
        # Anything else slows the process down, and its I/O.
        "ProcessType": "Interactive",
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    if definition.user is not None:
        table["UserName"] = definition.user
    for text in (*definition.command, *_paths(sockets), str(log)):
        if not text.isprintable():
            raise UsageError(f"{text!r} cannot stand in a property list; use a plain name")
    head, tag, rest = plistlib.dumps(table, sort_keys=False).partition(b"<plist")
    return head + f"<!-- {MARK} -->\n".encode() + tag + rest


def read_listening(table: dict[str, Any]) -> tuple[str, ...]:
    """The sockets in a property list of ``render_plist``, as ``--listen`` has them."""
    sockets = table.get("Sockets", {}).get(SOCKETS, [])
    return tuple(_read_socket(entry) for entry in (sockets if isinstance(sockets, list) else [sockets]))


def _socket(listen: Listen) -> dict[str, str | int]:
    match listen.address:
        case UnixAddress(path):
            return {"SockPathName": path, "SockPathMode": listen.mode or 0}
        case TcpAddress(host, port) if port:
            return {"SockNodeName": host, "SockServiceName": str(port)}
        case TcpAddress():
            raise UsageError(f"--listen {listen}: launchd needs the number of a port")
        case VsockAddress():
            raise UsageError(
                f"--listen {listen}: macOS lets only the VM monitor answer vsock; give unix:PATH and have it relayed"
            )


def _paths(sockets: Iterable[Mapping[str, str | int]]) -> list[str]:
    return [str(entry["SockPathName"]) for entry in sockets if "SockPathName" in entry]


def _read_socket(entry: dict[str, Any]) -> str:
    if "SockPathName" in entry:
        return str(Listen(UnixAddress(entry["SockPathName"])))
    return str(Listen(TcpAddress(entry["SockNodeName"], int(entry["SockServiceName"]))))
