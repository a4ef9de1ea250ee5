"""The file of tokens that guests must prove to have."""

from __future__ import annotations

import logging
from pathlib import Path

from mlxbridge.errors import UsageError
from mlxbridge.protocol.handshake import parse_token

log = logging.getLogger(__name__)


def read_tokens(path: Path) -> dict[str, bytes]:
    """Tokens, one a line (``NAME:SECRET`` or ``SECRET``); empty lines and lines that begin with ``#`` do not count.

    Returns:
        Secret by name of the guest.

    Raises:
        UsageError: the file cannot be read, a line is no token, or a name comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        open_to_others = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if open_to_others:
        log.warning("%s can be read by other users; chmod 600 it", path)
    tokens: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = parse_token(line)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error.message}") from error
        if token.identity in tokens:
            raise UsageError(f"{path}, line {number}: the name {token.identity!r} comes twice")
        tokens[token.identity] = token.secret
    if not tokens:
        raise UsageError(f"{path} has no token in it")
    return tokens
