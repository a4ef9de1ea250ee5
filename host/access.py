"""Who may be let in where."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.addresses import Listen, TcpAddress
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
