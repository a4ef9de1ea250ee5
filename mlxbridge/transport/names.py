"""Look up host names without waiting longer than asked.

``getaddrinfo`` has no deadline of its own: a name that nobody answers for took 11 s in an Apple container
(apple/container#346). It runs in a daemon thread that is left behind when time is up, and not in asyncio's
executor, whose threads ``asyncio.run`` would wait for at the end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

SockAddr = tuple[str, int] | tuple[str, int, int, int]
Found = Sequence[tuple[int, SockAddr]]
"""Address family and kernel address, in the order in which to try them."""


def literal(host: str, port: int) -> Found:
    """What a numeric host stands for.

    Args:
        host: an IPv4 or IPv6 literal, or a name.
        port: the TCP port.

    Returns:
        One address, or nothing when ``host`` is a name.
    """
    with contextlib.suppress(socket.gaierror):
        return _getaddrinfo(host, port, socket.AI_NUMERICHOST)
    return ()


def look_up(host: str, port: int) -> Future[Found]:
    """Ask the resolver for a host name, in a thread of its own.

    Args:
        host: a name.
        port: the TCP port.

    Returns:
        The addresses to come, or ``socket.gaierror``; whoever waits decides for how long.
    """
    from concurrent.futures import Future  # it brings logging along, which literals shall not pay for

    found: Future[Found] = Future()
    found.set_running_or_notify_cancel()  # from here on nobody can cancel it under the thread
    threading.Thread(target=_resolve, args=(found, host, port), name=f"look up {host}", daemon=True).start()
    return found


def _resolve(found: Future[Found], host: str, port: int) -> None:
    try:
        addresses = _getaddrinfo(host, port, 0)
    except BaseException as exc:
        found.set_exception(exc)
    else:
        found.set_result(addresses)


def _getaddrinfo(host: str, port: int, flags: int) -> Found:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, sockaddr) for family, _, _, _, sockaddr in infos]  # type: ignore[misc]
