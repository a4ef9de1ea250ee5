"""The two units that describe the host to systemd, systemd.socket(5) and systemd.service(5)."""

from __future__ import annotations

import ipaddress
import re

from mlxbridge.addresses import CID_ANY, Listen, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import MARK, Definition

SERVICE_UNIT = "mlxbridge.service"
SOCKET_UNIT = "mlxbridge.socket"
_DESCRIPTION = "mlxbridge: MLX models for containers and VMs"
_BAD_COMMAND_LINE = 2
"""Exit status of a host that has refused what it was told."""
_PLAIN_WORD = re.compile(r"[\w@+=:,./-]+", re.ASCII)


def render_socket_unit(definition: Definition) -> str:
    """The unit of the sockets, which stay open when the host ends.

    Raises:
        UsageError: systemd cannot make one of the sockets, or unix sockets differ in their modes.
    """
    lines = [f"ListenStream={_stream(owned.listen)}" for owned in definition.sockets]
    modes = {
        (owned.listen.mode or 0, owned.folder_mode)
        for owned in definition.sockets
        if isinstance(owned.listen.address, UnixAddress)
    }
    if len(modes) > 1:
        raise UsageError(
            "--listen: a socket unit has one mode for all of its unix sockets; give ?mode= to each, the same"
        )
    for mode, folder_mode in modes:
        lines += [f"SocketMode={mode:04o}", f"DirectoryMode={folder_mode:04o}", "RemoveOnStop=yes"]
        if definition.user is not None:
            lines.append(f"SocketUser={definition.user}")
    return "\n".join(
        [
            f"# {MARK}",
            "[Unit]",
            f"Description=Sockets of {_DESCRIPTION}",
            "",
            "[Socket]",
            *lines,
            "",
            "[Install]",
            "WantedBy=sockets.target",
            "",
        ]
    )


def render_service_unit(definition: Definition) -> str:
    """The unit of the process.

    Raises:
        UsageError: a word of the command line cannot stand in a unit.
    """
    command = " ".join(quote(word) for word in (*definition.command, "--listen", "systemd"))
    user = [] if definition.user is None else [f"User={definition.user}"]
    target = "default.target" if definition.user is None else "multi-user.target"
    return "\n".join(
        [
            f"# {MARK}",
            "[Unit]",
            f"Description={_DESCRIPTION}",
            f"Requires={SOCKET_UNIT}",
            f"After={SOCKET_UNIT}",
            "# Never met by a host that crashes again and again, since systemd would close the sockets for that.",
            "StartLimitIntervalSec=10",
            "StartLimitBurst=10",
            "",
            "[Service]",
            "Type=notify",
            *user,
            f"ExecStart={command}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "# A module in the folder that it starts in could take the place of one of Python's.",
            "WorkingDirectory=/",
            "# The host ends its workers itself, and starts one again that was killed for want of memory.",
            "KillMode=mixed",
            "OOMPolicy=continue",
            f"TimeoutStopSec={definition.stop_timeout_s}",
            "Restart=on-failure",
            "RestartSec=1",
            f"RestartPreventExitStatus={_BAD_COMMAND_LINE}",
            "",
            "[Install]",
            f"WantedBy={target}",
            "",
        ]
    )


def quote(word: str) -> str:
    """A word of ``ExecStart=`` as it is meant, systemd.service(5), "Command lines".

    Raises:
        UsageError: it has a control character.
    """
    _check_printable(word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return escaped if _PLAIN_WORD.fullmatch(word) else f'"{escaped}"'


def _stream(listen: Listen) -> str:
    match listen.address:
        case UnixAddress(path):
            _check_printable(path)
            if path != path.strip():  # systemd does not take spaces at a line's end for a part of it
                raise UsageError(f"{path!r} cannot stand in a systemd unit; use a plain name")
            return path.replace("%", "%%")
        case TcpAddress(host, port) if port and _is_number(host):
            return str(listen).removeprefix("tcp:")
        case TcpAddress():
            raise UsageError(f"--listen {listen}: systemd needs an IP address and the number of a port")
        case VsockAddress(cid, port) if port:
            return f"vsock:{'' if cid == CID_ANY else cid}:{port}"
        case VsockAddress():
            raise UsageError(f"--listen {listen}: systemd needs the number of a port")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_printable(text: str) -> None:
    # A backslash at its end would join a path with the next line.
    if not text.isprintable() or text.endswith("\\"):
        raise UsageError(f"{text!r} cannot stand in a systemd unit; use a plain name")
