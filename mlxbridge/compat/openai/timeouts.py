"""How long a call may take, as openai's programs say it."""

from __future__ import annotations

from typing import Any


class Timeout:
    """httpx's, which need not be installed. A host's call has one time for all of it: that is ``read`` here.

    Args:
        timeout: seconds of each that is left out; None for no limit.
        read: to wait for an answer.
        connect, write, pool: they have no meaning of their own here.
    """

    def __init__(
        self,
        timeout: float | None = None,
        *,
        connect: float | None = -1,
        read: float | None = -1,
        write: float | None = -1,
        pool: float | None = -1,
    ) -> None:
        self.connect, self.read, self.write, self.pool = (
            timeout if given == -1 else given for given in (connect, read, write, pool)
        )


def seconds_of(timeout: Any) -> Any:
    """A timeout's seconds, where it is a ``Timeout``, httpx's or the one here; what else it is as it is."""
    is_httpx = hasattr(timeout, "read") and hasattr(timeout, "connect")
    return timeout.read if is_httpx else timeout
