"""Asking a gateway whether it is well, with nothing but the standard library: what a container's health check runs."""

from __future__ import annotations

import http.client
import json
import socket

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress
from mlxbridge.errors import DeadlineExceeded, TransportError, Unavailable

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where one that listens on all addresses is found from here."""


def check(listen: Listen, *, is_ready: bool, timeout_s: float) -> None:
    """Return if the gateway is well.

    Args:
        listen: where it listens.
        is_ready: ask whether the host has a model, too.
        timeout_s: for the answer.

    Raises:
        TransportError: nobody listens there.
        DeadlineExceeded: there is no answer in time.
        Unavailable: it says that it is not, and why.
    """
    path = "/readyz" if is_ready else "/healthz"
    connection = _Connection(listen, timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except TimeoutError:
        raise DeadlineExceeded(f"{listen} has not answered {path} within {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"no gateway answers at {listen}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Unavailable(f"{path} is {response.status}: {_reason(body)}")


class _Connection(http.client.HTTPConnection):
    """Over TCP or a unix socket."""

    def __init__(self, listen: Listen, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._listen = listen

    def connect(self) -> None:
        """Connect to where the gateway listens."""
        match self._listen.address:
            case UnixAddress(path):
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(self.timeout)
                self.sock.connect(path)
            case TcpAddress(host, port):
                self.sock = socket.create_connection((_ANY.get(host, host), port), self.timeout)


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "no reason was given"
