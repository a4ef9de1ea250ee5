"""What a gateway is told when it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxbridge.addresses import Listen
from mlxbridge.errors import UsageError

MAX_BODY_BYTES = 32 << 20
DRAIN_TIMEOUT_S = 30.0
_MAX_BODIES_BYTES = 256 << 20
_MIN_BODIES = 8  # that have room at once, however large each of them may be


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a gateway listens, whom it lets in, and what it asks.

    Attributes:
        listens: TCP and unix addresses.
        url: of the host; None: ``MLXBRIDGE_URL``, else the usual places.
        token: the gateway's own for the host; None: ``MLXBRIDGE_TOKEN``.
        keys_file: API keys; None: anyone may ask who reaches the address.
        cors_origins: web pages' origins that may ask; ("*",) for all.
        max_body_bytes: of a request.
        timeout_s: for each call of the host; None: as long as it takes.
        drain_timeout_s: what running requests have left once the gateway is to stop.
        logs_prompts: write prompts and answers into the log.
        ends_with_stdin: stop, as with SIGTERM, when standard input ends, as it does with whoever holds its other end; a
            line there has the keys read again.
    """

    listens: tuple[Listen, ...]
    url: str | None = None
    token: str | None = None
    keys_file: Path | None = None
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    timeout_s: float | None = None
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    logs_prompts: bool = False
    ends_with_stdin: bool = False

    @property
    def max_bodies_bytes(self) -> int:
        """Of all requests under way together."""
        return max(_MAX_BODIES_BYTES, _MIN_BODIES * self.max_body_bytes)

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine's own programs, its browsers among them, can connect."""
        return all(listen.is_local for listen in self.listens)


def check_open(listens: Sequence[Listen], *, allows_anyone: bool) -> None:
    """Refuse to listen without keys where other machines could connect, unless that is meant.

    Raises:
        UsageError: it names the address.
    """
    for listen in listens:
        if not allows_anyone and not listen.is_local:
            raise UsageError(
                f"{listen}: whoever reaches the port could use the models; give --keys FILE (`mlxbridge gateway key NAME` "
                "makes one), or --allow-anyone where only those can reach it who may"
            )
