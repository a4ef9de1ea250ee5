"""openai's client, with a host behind it; needs neither the openai package nor HTTP.

    >>> from mlxbridge.compat.openai import OpenAI
    >>> client = OpenAI()
    >>> chat = [{"role": "user", "content": "What is 27 + 15?"}]
    >>> client.chat.completions.create(model="demo", messages=chat).choices[0].message.content
    '27 + 15 = 42.'

What the host cannot do is a ``BadRequestError`` that names the parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlxbridge.compat.openai.client import OpenAI, Stream
from mlxbridge.compat.openai.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentFilterFinishReasonError,
    InternalServerError,
    LengthFinishReasonError,
    NotFoundError,
    OpenAIError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from mlxbridge.compat.openai.function_tools import pydantic_function_tool
from mlxbridge.compat.openai.missing import missing
from mlxbridge.compat.openai.parameters import NOT_GIVEN, NotGiven, Omit, not_given, omit
from mlxbridge.compat.openai.timeouts import Timeout

if TYPE_CHECKING:
    from mlxbridge.compat.openai.async_client import AsyncOpenAI, AsyncStream
    from mlxbridge.compat.openai.client import Beta, Chat, Completions, Embeddings, Models
    from mlxbridge.compat.openai.legacy import ChatCompletion, Completion, Embedding, Model

Client = OpenAI

api_key: str | None = None
"""The token of ``chat.completions.create``, ``ChatCompletion.create`` and their kin; else the environment's."""
base_url: str | None = None
"""Where they find the host."""
api_base: str | None = None
"""The same by its old name."""
timeout: float | Timeout | None = 600.0
"""Seconds for each of their calls."""
max_retries: int = 2
"""How often they try again."""

if TYPE_CHECKING:
    chat: Chat
    beta: Beta
    completions: Completions
    embeddings: Embeddings
    models: Models

_HOME = {
    "AsyncClient": ("async_client", "AsyncOpenAI"),
    "AsyncOpenAI": ("async_client", "AsyncOpenAI"),
    "AsyncStream": ("async_client", "AsyncStream"),
    **{name: ("legacy", name) for name in ("ChatCompletion", "Completion", "Embedding", "Model")},
}
"""Loaded when they are first used, since they need asyncio."""
_RESOURCES = ("chat", "beta", "completions", "embeddings", "models")
"""Of the client that has the settings above, as they are at the time."""

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncOpenAI",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "ChatCompletion",
    "Client",
    "Completion",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "Embedding",
    "InternalServerError",
    "LengthFinishReasonError",
    "Model",
    "NotFoundError",
    "NotGiven",
    "Omit",
    "OpenAI",
    "OpenAIError",
    "PermissionDeniedError",
    "RateLimitError",
    "Stream",
    "Timeout",
    "UnprocessableEntityError",
    "not_given",
    "omit",
    "pydantic_function_tool",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _RESOURCES:
        return getattr(importlib.import_module(f"{__name__}.legacy").shared_client(), name)
    if name == "types":
        return importlib.import_module(f"{__name__}.types")
    if name not in _HOME:
        raise missing(name)
    module, own = _HOME[name]
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), own)
    return value
