"""Who may be let in where."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress
from mlxbridge.errors import UsageError


def check_tokens(listen: Listen, tokens: Mapping[str, bytes] | None) -> None:
    """Refuse to listen where anybody could connect, but for a token.

    Raises:
        UsageError: it is TCP, and there are no tokens.
    """
    if isinstance(listen.address, TcpAddress) and tokens is None:
        raise UsageError(
            f"{listen}: TCP needs a token, since every process that reaches the port could connect; "
            "make one with `openssl rand -hex 32 > tokens && chmod 600 tokens` and name the file as token_file"
        )


def check_metrics(listen: Listen) -> None:
    """Refuse to tell metrics where anybody but this machine's own could ask: nobody shows a token for them.

    Raises:
        UsageError: it is neither a unix socket nor a loopback address.
    """
    address = listen.address
    if isinstance(address, UnixAddress) or (isinstance(address, TcpAddress) and _is_loopback(address.host)):
        return
    raise UsageError(
        f"{listen}: metrics are told without a token, and so on this machine alone: give tcp:127.0.0.1:PORT or unix:PATH"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
