"""One suite for both clients: ``AsyncClient`` on a loop of its own, spoken to as ``Client`` is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from mlxbridge import AsyncClient, AsyncConversation, Client

KINDS = ("blocking", "asyncio", "uvloop")


class OnLoop:
    """Anything async, blocking: what is to be awaited is, and what it gives is wrapped in turn."""

    def __init__(self, thing: Any, runner: asyncio.Runner) -> None:
        self._thing = thing
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        if name == "close" and hasattr(self._thing, "aclose"):
            name = "aclose"
        found = getattr(self._thing, name)
        return self._awaiting(found) if callable(found) else found

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._run(anext(self._thing))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> OnLoop:
        self._run(self._thing.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._run(self._thing.__aexit__(*error))

    def _awaiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                result = self._run(result)
            is_async = hasattr(result, "__anext__") or isinstance(result, AsyncConversation)
            return OnLoop(result, self._runner) if is_async else result

        return call

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())


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

        with OnLoop(runner.run(make()), runner) as wrapped:
            yield wrapped
