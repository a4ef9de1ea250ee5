"""Module functions on one shared blocking client: ``mlxbridge.generate("…")``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from mlxbridge.guest.blocking import Client, Progress
from mlxbridge.guest.streams import TokenStream
from mlxbridge.types import Generation, Message, ModelInfo, Prompt, Status

_lock = threading.Lock()
_client: Client | None = None


def default_client() -> Client:
    """The client behind the module functions, made at first use from the environment."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = Client()
    return _client


def generate(prompt: Prompt | None = None, **arguments: Any) -> Generation | TokenStream:
    """``Client.generate`` on the default client."""
    answer: Generation | TokenStream = default_client().generate(prompt, **arguments)
    return answer


def stream(prompt: Prompt | None = None, **arguments: Any) -> TokenStream:
    """``Client.stream`` on the default client."""
    return default_client().stream(prompt, **arguments)


def chat(messages: str | Sequence[Message], **arguments: Any) -> Generation | TokenStream:
    """``Client.chat`` on the default client."""
    answer: Generation | TokenStream = default_client().chat(messages, **arguments)
    return answer


def list_models(*, timeout: float | None = None) -> list[ModelInfo]:
    """``Client.list_models`` on the default client."""
    return default_client().list_models(timeout=timeout)


def load_model(model: str, *, progress: Progress | None = None, timeout: float | None = None) -> ModelInfo:
    """``Client.load_model`` on the default client."""
    return default_client().load_model(model, progress=progress, timeout=timeout)


def unload_model(model: str, *, timeout: float | None = None) -> ModelInfo:
    """``Client.unload_model`` on the default client."""
    return default_client().unload_model(model, timeout=timeout)


def status(*, timeout: float | None = None) -> Status:
    """``Client.status`` on the default client."""
    return default_client().status(timeout=timeout)


def ping(*, timeout: float | None = 5.0) -> float:
    """``Client.ping`` on the default client."""
    return default_client().ping(timeout=timeout)
