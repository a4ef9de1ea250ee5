"""The openai package as its own client: ``openai.ChatCompletion.create`` and its kin, which there were before version 1, and
``openai.chat.completions.create``.

The package's ``api_key``, ``base_url`` (or ``api_base``), ``timeout`` and ``max_retries`` are the client's, as they are at each call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from mlxbridge.compat.openai.async_client import AsyncOpenAI, AsyncStream
from mlxbridge.compat.openai.client import OpenAI
from mlxbridge.compat.openai.errors import translated
from mlxbridge.compat.openai.settings import meaningless
from mlxbridge.compat.openai.timeouts import seconds_of
from mlxbridge.compat.refusal import refused

_clients: dict[tuple[Any, ...], OpenAI] = {}
_RENAMED = {"request_timeout": "timeout", "engine": "model"}
"""Before version 1, and now."""
_MEANINGLESS = (
    *("default_headers", "default_query", "http_client"),
    *("api_type", "api_version", "proxy", "requestssession"),  # before version 1
)


def _settings() -> dict[str, Any]:
    package: Any = sys.modules["mlxbridge.compat.openai"]
    with translated():
        for name in _MEANINGLESS:
            if vars(package).get(name) is not None:
                raise meaningless(name)
    return {
        "api_key": package.api_key,
        "base_url": package.base_url or package.api_base,
        "timeout": seconds_of(package.timeout),  # which may be httpx's, and so no key
        "max_retries": package.max_retries,
    }


def shared_client() -> OpenAI:
    """The one with the package's settings, made at first use.

    Raises:
        BadRequestError: one of them has no meaning here; ``param`` names it.
    """
    settings = _settings()
    key = tuple(settings.values())
    found = _clients.get(
        key
    )  # no lock, which a fork could keep for ever: a client that nobody uses connects to nothing
    return _clients.setdefault(key, OpenAI(**settings)) if found is None else found


def _modern(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by the names that they have now.

    Raises:
        BadRequestError: one was given by both of its names.
    """
    with translated():
        for name, now in _RENAMED.items():
            if name in parameters and now in parameters:
                raise refused(name, f"is {now} now, which is there too: give one of them")
    return {_RENAMED.get(name, name): value for name, value in parameters.items()}


class _Resource:
    """What the old classes have in common."""

    @staticmethod
    def _method(client: Any) -> Callable[..., Any]:
        raise NotImplementedError

    @classmethod
    def create(cls, **parameters: Any) -> Any:
        """As ``create`` of ``OpenAI`` now; ``request_timeout`` is its ``timeout``, and ``engine`` its ``model``. What it gives are dicts too."""
        return cls._method(shared_client())(**_modern(parameters))

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
        return shared_client().models.list()

    @classmethod
    def retrieve(cls, id: str) -> Any:
        """One of them."""
        return shared_client().models.retrieve(id)
