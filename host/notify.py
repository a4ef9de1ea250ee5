"""Tell systemd how the host is, sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """Speaks to the service manager that started this process, if it is one that listens; else says nothing.

    Child processes do not inherit the variable that tells where it listens.
    """

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path

    def ready(self, status: str | None = None) -> None:
        """Guests can connect, or what was ``reloading`` is done; ``status`` is one line for people, None the one before."""
        self._send("READY=1", *([] if status is None else [f"STATUS={status}"]))

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The host ends."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        # A service manager that is not there any more is no reason to end.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            if self._address:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
