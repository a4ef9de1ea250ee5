"""Async clients in tests that are written for blocking ones."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any


class OnLoop:
    """An async client, or what belongs to it, spoken to as a blocking one: what is to be awaited is.

    Args:
        thing: it.
        runner: has the loop that it is for.
        is_async: whether a value belongs to such a client, too.
    """

    def __init__(self, thing: Any, runner: asyncio.Runner, is_async: Callable[[Any], bool]) -> None:
        self._thing = thing
        self._runner = runner
        self._is_async = is_async

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if inspect.isroutine(found):
            return lambda *args, **kwargs: self._wrapped(found(*args, **kwargs))
        return self._wrapped(found)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._run(anext(self._thing))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Any:
        return self._wrapped(self._thing.__aenter__())

    def __exit__(self, *error: Any) -> None:
        self._run(self._thing.__aexit__(*error))

    def _wrapped(self, value: Any) -> Any:
        value = self._run(value) if inspect.isawaitable(value) else value
        return type(self)(value, self._runner, self._is_async) if self._is_async(value) else value

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())
