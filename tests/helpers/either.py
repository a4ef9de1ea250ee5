"""One suite for both clients: ``AsyncClient`` on a loop of its own, spoken to as ``Client`` is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from mlxbridge import AsyncClient, AsyncConversation, Client
from tests.helpers.on_loop import OnLoop

KINDS = ("blocking", "asyncio", "uvloop")


class _Blocking(OnLoop):
    """An ``AsyncClient``, or what it gives; streams of the blocking client have ``close``."""

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__("aclose" if name == "close" and hasattr(self._thing, "aclose") else name)


def _is_async(value: Any) -> bool:
    return isinstance(value, AsyncClient | AsyncConversation) or hasattr(value, "__anext__")


@contextmanager
def either_client(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of one of ``KINDS``, to be used like ``Client``."""
    if kind == "blocking":
        with Client(url, **options) as client:
            yield client
        return
    factory = uvloop.new_event_loop if kind == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:

        async def make() -> AsyncClient:
            return AsyncClient(url, **options)

        with _Blocking(runner.run(make()), runner, _is_async) as wrapped:
            yield wrapped
