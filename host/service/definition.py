"""What a service manager is told about the host, whichever manager it is."""

from __future__ import annotations

from dataclasses import dataclass

from mlxbridge.addresses import Listen, UnixAddress
from mlxbridge.transport.listen import folder_mode, safe_mode

MARK = "Written by mlxbridge-host service install, which replaces what is changed here."
"""Stands in every file of ours; one without it is somebody else's."""


@dataclass(frozen=True, slots=True)
class OwnedSocket:
    """A socket that the service manager makes and hands down.

    Attributes:
        listen: what it is; a unix socket has its mode.
        folder_mode: permission bits of a unix socket's folder, should it be missing.
    """

    listen: Listen
    folder_mode: int

    @classmethod
    def of(cls, listen: Listen) -> OwnedSocket:
        """With the permissions that the host's own socket would get."""
        mode = listen.mode
        if isinstance(listen.address, UnixAddress) and mode is None:
            mode = safe_mode(listen.address.path)
        return cls(Listen(listen.address, mode), folder_mode(listen.mode))


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """How the host is to be run.

    Attributes:
        command: program and arguments, without ``--listen``; paths in it are absolute.
        sockets: one or more.
        stop_timeout_s: the host is killed if it has not ended so long after SIGTERM.
        user: whom a service of the system runs as; None in a service of one's own.
    """

    command: tuple[str, ...]
    sockets: tuple[OwnedSocket, ...]
    stop_timeout_s: int
    user: str | None = None
