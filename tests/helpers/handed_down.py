"""Start programs as systemd starts them: with listening sockets from descriptor 3 on, sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

# LISTEN_PID is the process's own id, which is known only in it; and exec keeps both the id and the descriptors.
_LAUNCHER = """\
import fcntl, os, sys
names, fds, command = sys.argv[1], [int(fd) for fd in sys.argv[2].split(",")], sys.argv[3:]
safe = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for fd in fds:
    os.close(fd)
for number, fd in enumerate(safe, 3):
    os.dup2(fd, number)
    os.close(fd)
told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(safe)), "LISTEN_FDNAMES": names}
os.execve(command[0], command, {**os.environ, **told})
"""


def start_with_sockets(
    sockets: Sequence[socket.socket],
    command: Sequence[str],
    *,
    names: Sequence[str] = (),
    stderr: int | None = None,
) -> subprocess.Popen[str]:
    """Run ``command``, whose first word is a path, with ``sockets`` handed down; they stay open here too."""
    fds = [sock.fileno() for sock in sockets]
    names = names or ["mlxbridge.socket"] * len(fds)
    launch = [sys.executable, "-c", _LAUNCHER, ":".join(names), ",".join(map(str, fds)), *command]
    return subprocess.Popen(
        launch, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


@contextlib.contextmanager
def unix_listener(backlog: int = 4096) -> Iterator[tuple[socket.socket, Path]]:
    """A listening socket, as a service manager makes it, and its file."""
    with (
        tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        path = Path(folder, "m.sock")
        sock.bind(os.fspath(path))
        sock.listen(backlog)
        yield sock, path


def tcp_listener(host: str = "127.0.0.1") -> socket.socket:
    """A listening socket on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)
