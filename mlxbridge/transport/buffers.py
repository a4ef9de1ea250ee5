"""Kernel buffers of unix sockets."""

from __future__ import annotations

import socket
import sys

# A piece of bulk data in one write; macOS gives a unix socket 8 KiB (net.local.stream.sendspace).
UNIX_BUFFER_BYTES = 256 << 10


def widen_unix(sock: socket.socket) -> None:
    """Give a unix socket buffers of 256 KiB where the system's own are too small, that is on macOS.

    Args:
        sock: unconnected; what a listener accepts inherits its sizes.
    """
    if sys.platform == "darwin":
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, UNIX_BUFFER_BYTES)
