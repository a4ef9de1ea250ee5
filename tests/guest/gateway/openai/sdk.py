"""Both of openai's clients spoken to in one way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai._resource import AsyncAPIResource
from pydantic import BaseModel

KINDS = ("blocking", "asyncio")


class OnLoop:
    """``AsyncOpenAI``, or what belongs to it, as a blocking one: what is to be awaited is."""

    def __init__(self, thing: Any, runner: asyncio.Runner) -> None:
        self._thing = thing
        self._runner = runner

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
        is_async = isinstance(value, AsyncAPIResource) or hasattr(value, "__anext__")
        is_async = is_async or hasattr(value, "__aenter__")
        return OnLoop(value, self._runner) if is_async else value

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())


@contextmanager
def sdk_client(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of one of ``KINDS``, to be used like ``OpenAI``; it tries nothing twice."""
    given = {"base_url": f"{url}/v1", "api_key": "sk-none", "max_retries": 0, "timeout": 120, **options}
    if kind == "blocking":
        with openai.OpenAI(**given) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        wrapped = OnLoop(openai.AsyncOpenAI(**given), runner)
        yield wrapped
        wrapped.close()


def check(read: Any, *, allowed: tuple[str, ...] = ()) -> Any:
    """What the SDK read without looking is what its types say, with no field more than ``allowed``."""
    type(read).model_validate(read.to_dict(mode="json"))
    refuse_extra(read, allowed)
    return read


def refuse_extra(read: Any, allowed: tuple[str, ...]) -> None:
    if isinstance(read, BaseModel):
        assert set(read.model_extra or {}) <= {*allowed}, read
        for name in type(read).model_fields:
            refuse_extra(getattr(read, name, None), allowed)
    elif isinstance(read, list):
        for one in read:
            refuse_extra(one, allowed)
