"""Module functions on one shared blocking client: ``mlxbridge.generate("…")``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

from mlxbridge.events import EventKind
from mlxbridge.guest.blocking import Client
from mlxbridge.guest.conversation import Conversation
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.outcomes import Outcomes
from mlxbridge.guest.requests import MAX_ROUNDS, chat_options
from mlxbridge.guest.streams import TokenStream
from mlxbridge.guest.subscriptions import Events
from mlxbridge.guest.turns import WhenFull
from mlxbridge.types import (
    AnyTool,
    CallOptions,
    Embeddings,
    EmbedInput,
    EmbedOptions,
    GenerateOptions,
    Generation,
    KeepAlive,
    ManyPrompt,
    Message,
    ModelInfo,
    Options,
    Progress,
    Prompt,
    Ranking,
    RerankOptions,
    Status,
    TokenizeOptions,
    ToolRun,
)

T = TypeVar("T")

_lock = threading.Lock()
_client: Client | None = None


def _renew_lock() -> None:
    """In a child of a fork: the thread that held the lock, if one did, is not there to let it go."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def default_client() -> Client:
    """The client behind the module functions, made at first use from the environment."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = Client()
    return _client


@overload
def generate(
    prompt: Prompt | None = None,
    *,
    stream: Literal[False] = False,
    n: None = None,
    messages: Sequence[Message] | None = None,
    response_format: type[T],
    **options: Unpack[CallOptions],
) -> TypedGeneration[T]: ...


@overload
def generate(
    prompt: Prompt | None = None,
    *,
    stream: Literal[False] = False,
    n: int,
    messages: Sequence[Message] | None = None,
    response_format: type[T],
    **options: Unpack[CallOptions],
) -> list[TypedGeneration[T]]: ...


@overload
def generate(
    prompt: Prompt | None = None,
    *,
    stream: Literal[False] = False,
    n: None = None,
    **options: Unpack[GenerateOptions],
) -> Generation: ...


@overload
def generate(
    prompt: Prompt | None = None,
    *,
    stream: Literal[False] = False,
    n: int,
    **options: Unpack[GenerateOptions],
) -> list[Generation]: ...


@overload
def generate(
    prompt: Prompt | None = None, *, stream: Literal[True], **options: Unpack[GenerateOptions]
) -> TokenStream: ...


def generate(
    prompt: Prompt | None = None,
    *,
    stream: bool = False,
    n: int | None = None,
    **options: Unpack[GenerateOptions],
) -> Any:
    """``Client.generate`` on the default client."""
    return default_client().answer(prompt, options, stream=stream, n=n)


def stream(prompt: Prompt | None = None, **options: Unpack[GenerateOptions]) -> TokenStream:
    """``Client.stream`` on the default client."""
    return default_client().stream(prompt, **options)


@overload
def chat(
    messages: str | Sequence[Message],
    *,
    stream: Literal[False] = False,
    n: None = None,
    response_format: type[T],
    **options: Unpack[CallOptions],
) -> TypedGeneration[T]: ...


@overload
def chat(
    messages: str | Sequence[Message],
    *,
    stream: Literal[False] = False,
    n: int,
    response_format: type[T],
    **options: Unpack[CallOptions],
) -> list[TypedGeneration[T]]: ...


@overload
def chat(
    messages: str | Sequence[Message],
    *,
    stream: Literal[False] = False,
    n: None = None,
    **options: Unpack[Options],
) -> Generation: ...


@overload
def chat(
    messages: str | Sequence[Message],
    *,
    stream: Literal[False] = False,
    n: int,
    **options: Unpack[Options],
) -> list[Generation]: ...


@overload
def chat(
    messages: str | Sequence[Message], *, stream: Literal[True], **options: Unpack[Options]
) -> TokenStream: ...


def chat(
    messages: str | Sequence[Message],
    *,
    stream: bool = False,
    n: int | None = None,
    **options: Unpack[Options],
) -> Any:
    """``Client.chat`` on the default client."""
    return default_client().answer(None, chat_options(messages, options), stream=stream, n=n)


def generate_many(prompts: Iterable[ManyPrompt], **options: Unpack[Options]) -> Outcomes:
    """``Client.generate_many`` on the default client."""
    return default_client().generate_many(prompts, **options)


def embed(inputs: EmbedInput | Iterable[EmbedInput], **options: Unpack[EmbedOptions]) -> Embeddings:
    """``Client.embed`` on the default client."""
    return default_client().embed(inputs, **options)


def rerank(query: str, documents: Iterable[str], **options: Unpack[RerankOptions]) -> Ranking:
    """``Client.rerank`` on the default client."""
    return default_client().rerank(query, documents, **options)


def run_tools(
    messages: str | Sequence[Message],
    tools: Sequence[AnyTool],
    *,
    max_rounds: int = MAX_ROUNDS,
    raise_errors: bool = False,
    **options: Unpack[CallOptions],
) -> ToolRun:
    """``Client.run_tools`` on the default client."""
    return default_client().run_tools(
        messages, tools, max_rounds=max_rounds, raise_errors=raise_errors, **options
    )


def conversation(
    *,
    system: str | None = None,
    messages: Sequence[Message] = (),
    tools: Sequence[AnyTool] | None = None,
    when_full: WhenFull = "refuse",
    max_rounds: int = MAX_ROUNDS,
    **options: Unpack[CallOptions],
) -> Conversation:
    """``Client.conversation`` on the default client."""
    return default_client().conversation(
        system=system,
        messages=messages,
        tools=tools,
        when_full=when_full,
        max_rounds=max_rounds,
        **options,
    )


def tokenize(prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> list[int]:
    """``Client.tokenize`` on the default client."""
    return default_client().tokenize(prompt, **options)


def count_tokens(prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> int:
    """``Client.count_tokens`` on the default client."""
    return default_client().count_tokens(prompt, **options)


def detokenize(
    token_ids: Iterable[int],
    *,
    model: str | None = None,
    skip_special_tokens: bool = False,
    keep_alive: KeepAlive | None = None,
    timeout: float | None = None,
) -> str:
    """``Client.detokenize`` on the default client."""
    return default_client().detokenize(
        token_ids,
        model=model,
        skip_special_tokens=skip_special_tokens,
        keep_alive=keep_alive,
        timeout=timeout,
    )


def list_models(*, timeout: float | None = None) -> list[ModelInfo]:
    """``Client.list_models`` on the default client."""
    return default_client().list_models(timeout=timeout)


def load_model(
    model: str,
    *,
    progress: Progress | bool | None = None,
    keep_alive: KeepAlive | None = None,
    timeout: float | None = None,
) -> ModelInfo:
    """``Client.load_model`` on the default client."""
    return default_client().load_model(model, progress=progress, keep_alive=keep_alive, timeout=timeout)


def unload_model(model: str, *, timeout: float | None = None) -> ModelInfo:
    """``Client.unload_model`` on the default client."""
    return default_client().unload_model(model, timeout=timeout)


def show_model(model: str, *, timeout: float | None = None) -> ModelInfo:
    """``Client.show_model`` on the default client."""
    return default_client().show_model(model, timeout=timeout)


def pull_model(
    model: str, *, progress: Progress | bool | None = None, timeout: float | None = None
) -> ModelInfo:
    """``Client.pull_model`` on the default client."""
    return default_client().pull_model(model, progress=progress, timeout=timeout)


def delete_model(model: str, *, force: bool = False, timeout: float | None = None) -> int:
    """``Client.delete_model`` on the default client."""
    return default_client().delete_model(model, force=force, timeout=timeout)


def status(*, timeout: float | None = None) -> Status:
    """``Client.status`` on the default client."""
    return default_client().status(timeout=timeout)


def ping(*, timeout: float | None = None) -> float:
    """``Client.ping`` on the default client."""
    return default_client().ping(timeout=timeout)


def subscribe(events: Iterable[EventKind] | None = None, *, timeout: float | None = None) -> Events:
    """``Client.subscribe`` on the default client."""
    return default_client().subscribe(events, timeout=timeout)
