"""Both of openai's clients spoken to in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai._resource import AsyncAPIResource
from pydantic import BaseModel

from tests.helpers.on_loop import OnLoop

KINDS = ("blocking", "asyncio")


def _is_async(value: Any) -> bool:
    """Whether it belongs to ``AsyncOpenAI``, or is a stream of it."""
    return isinstance(value, AsyncAPIResource) or hasattr(value, "__anext__") or hasattr(value, "__aenter__")


@contextmanager
def sdk_client(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of one of ``KINDS``, to be used like ``OpenAI``; it tries nothing twice."""
    given = {"base_url": f"{url}/v1", "api_key": "sk-none", "max_retries": 0, "timeout": 120, **options}
    if kind == "blocking":
        with openai.OpenAI(**given) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        wrapped = OnLoop(openai.AsyncOpenAI(**given), runner, _is_async)
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
