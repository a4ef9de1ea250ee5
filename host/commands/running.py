"""The host that runs on this machine, asked over its socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress
from mlxbridge.errors import TransportError
from mlxbridge.guest.blocking import Client
from mlxbridge.host.config.config import Config
from mlxbridge.host.config.places import socket_file

_CONNECT_S = 1.0
_ANSWER_S = 10.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@contextmanager
def running_host(config: Config) -> Iterator[Client | None]:
    """A client of the host that runs with this configuration; None if none answers."""
    urls = [url for listen in config.listens if isinstance(listen, Listen) and (url := _url(listen))]
    token = next((f"{name}:{secret.decode()}" for name, secret in (config.tokens or {}).items()), None)
    url = ",".join(urls) or str(UnixAddress(str(socket_file())))
    with Client(url, token=token, connect_timeout=_CONNECT_S, timeout=_ANSWER_S) as client:
        try:
            client.ping()
        except TransportError:
            yield None
        else:
            yield client


def _url(listen: Listen) -> str | None:
    """Where it is dialled from this machine; a vsock port is for others."""
    address = listen.address
    if isinstance(address, TcpAddress):
        return str(TcpAddress(_ANY.get(address.host, address.host), address.port)) if address.port else None
    return str(address) if isinstance(address, UnixAddress) else None
