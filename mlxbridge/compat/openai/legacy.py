"""The openai package as it was before version 1: ``openai.ChatCompletion.create`` and its kin.

Where the host is, and with which token, say ``mlxbridge.compat.openai.api_base`` and ``api_key``; else the environment, as ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from mlxbridge.compat.openai.async_client import AsyncOpenAI, AsyncStream
from mlxbridge.compat.openai.client import OpenAI

_lock = threading.Lock()
_clients: dict[tuple[Any, ...], OpenAI] = {}


def _settings() -> dict[str, Any]:
    package: Any = sys.modules["mlxbridge.compat.openai"]
    return {"api_key": package.api_key, "base_url": package.base_url or package.api_base}


def _client() -> OpenAI:
    """The one with the package's settings, made at first use."""
    settings = _settings()
    key = tuple(settings.values())
    with _lock:
        if key not in _clients:
            _clients[key] = OpenAI(**settings)
        return _clients[key]


def _modern(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by the names that they have now."""
    given = dict(parameters)
    if "request_timeout" in given:
        given["timeout"] = given.pop("request_timeout")
    return given


class _Resource:
    """What the old classes have in common."""

    @staticmethod
    def _method(client: Any) -> Callable[..., Any]:
        raise NotImplementedError

    @classmethod
    def create(cls, **parameters: Any) -> Any:
        """As ``create`` of ``OpenAI`` now; ``request_timeout`` is its ``timeout``. What it gives are dicts too."""
        return cls._method(_client())(**_modern(parameters))

    @classmethod
    async def acreate(cls, **parameters: Any) -> Any:
        """The same on asyncio."""
        client = AsyncOpenAI(**_settings())
        try:
            answer = await cls._method(client)(**_modern(parameters))
        except BaseException:
            await client.close()
            raise
        if isinstance(answer, AsyncStream):
            answer.then(client.close)
        else:
            await client.close()
        return answer


class ChatCompletion(_Resource):
    """Answers to chats."""

    @staticmethod
    def _method(client: Any) -> Callable[..., Any]:
        return cast(Callable[..., Any], client.chat.completions.create)


class Completion(_Resource):
    """Answers to prompts."""

    @staticmethod
    def _method(client: Any) -> Callable[..., Any]:
        return cast(Callable[..., Any], client.completions.create)


class Embedding(_Resource):
    """Vectors."""

    @staticmethod
    def _method(client: Any) -> Callable[..., Any]:
        return cast(Callable[..., Any], client.embeddings.create)


class Model:
    """The host's models."""

    @classmethod
    def list(cls) -> Any:
        """All of them."""
        return _client().models.list()

    @classmethod
    def retrieve(cls, id: str) -> Any:
        """One of them."""
        return _client().models.retrieve(id)
