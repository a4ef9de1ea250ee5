"""The hosts that run on this machine, asked over their sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

from mlxbridge.addresses import Address, Listen, TcpAddress, UnixAddress, VsockAddress, parse_addresses
from mlxbridge.errors import TransportError
from mlxbridge.guest.blocking import Client
from mlxbridge.guest.discovery import find_token, usual_sockets
from mlxbridge.host.config.config import Config

_CONNECT_S = 1.0
_ANSWER_S = 10.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--url``; the command gets ``url``, None if it names no host."""
    return click.option(
        "--url",
        help="A running host: unix:///path, vsock://CID:PORT or tcp://host:port. Hosts are also looked for at "
        "MLXBRIDGE_URL, where the configuration listens, and at the usual sockets.",
    )(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHosts:
    """Those that answer.

    Attributes:
        clients: of them, in the order in which they were looked for; a host with two addresses may come twice.
        looked_at: all addresses that were tried.
    """

    clients: tuple[Client, ...]
    looked_at: tuple[str, ...]


@contextmanager
def running_hosts(config: Config, url: str | None = None) -> Iterator[RunningHosts]:
    """The hosts at ``url``, at ``MLXBRIDGE_URL``, where the configuration listens, and at the usual sockets.

    Raises:
        UsageError: an address cannot be read.
        TransportError: no host answers at ``url``.
        BridgeError: one answers, and refuses.
    """
    own = next((f"{name}:{secret.decode()}" for name, secret in (config.tokens or {}).items()), None)
    other = own if find_token(None) is None else None
    named = parse_addresses(url) if url else ()
    variable = os.environ.get("MLXBRIDGE_URL")
    listens = [listen.address for listen in config.listens if isinstance(listen, Listen)]
    configured = [address for listen in listens if (address := _dialled(listen))]
    usual = [UnixAddress(path) for path in usual_sockets() if os.path.exists(path)]
    tokens: dict[Address, str | None] = dict.fromkeys(
        (*named, *(parse_addresses(variable) if variable else ()), *configured, *usual), other
    )
    tokens.update(dict.fromkeys(configured, own))
    with ExitStack() as stack:
        clients = []
        if url:
            clients.append(stack.enter_context(_client(url, other)))
            clients[0].ping()
        for address in tokens:
            if address in named:
                continue
            client = stack.enter_context(_client(str(address), tokens[address]))
            with suppress(TransportError):
                client.ping()
                clients.append(client)
        looked_at = dict.fromkeys((*map(str, tokens), *(f"unix://{path}" for path in usual_sockets())))
        yield RunningHosts(clients=tuple(clients), looked_at=tuple(looked_at))


def _client(url: str, token: str | None) -> Client:
    return Client(url, token=token, connect_timeout=_CONNECT_S, timeout=_ANSWER_S)


def _dialled(address: Address) -> Address | None:
    """Where it is dialled from this machine; a vsock port is for others."""
    if isinstance(address, TcpAddress):
        return TcpAddress(_ANY.get(address.host, address.host), address.port) if address.port else None
    return None if isinstance(address, VsockAddress) else address
