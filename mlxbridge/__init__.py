"""mlxbridge: the GPU of a Mac (or any host) for Linux containers and VMs, over one socket.

    >>> import mlxbridge
    >>> for chunk in mlxbridge.stream(messages=[{"role": "user", "content": "Hello"}]):  # doctest: +SKIP
    ...     print(chunk, end="", flush=True)

Names are loaded when they are first used, so that ``import mlxbridge`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mlxbridge import errors
    from mlxbridge.errors import (
        AuthenticationError,
        BridgeError,
        Cancelled,
        ConnectionLost,
        ContextTooLong,
        DeadlineExceeded,
        HandshakeTimeout,
        HostNotFound,
        InternalError,
        InvalidArgument,
        LimitExceeded,
        ModelLoadFailed,
        ModelNotFound,
        ModelTooLarge,
        Overloaded,
        PermissionDenied,
        ProtocolError,
        RemoteError,
        TransportError,
        Unavailable,
        UnknownMethod,
        Unsupported,
        UsageError,
        VersionMismatch,
        WorkerLost,
    )
    from mlxbridge.events import GuestEvent, LostEvent, ModelEvent, ReloadEvent, RequestEvent, StoreEvent
    from mlxbridge.guest.async_outcomes import AsyncOutcomes
    from mlxbridge.guest.async_streams import AsyncTokenStream
    from mlxbridge.guest.async_subscriptions import AsyncEvents
    from mlxbridge.guest.blocking import Client
    from mlxbridge.guest.client import AsyncClient
    from mlxbridge.guest.default import (
        chat,
        count_tokens,
        delete_model,
        detokenize,
        embed,
        generate,
        generate_many,
        list_models,
        load_model,
        ping,
        pull_model,
        rerank,
        show_model,
        status,
        stream,
        subscribe,
        tokenize,
        unload_model,
    )
    from mlxbridge.guest.outcomes import Outcomes
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.guest.subscriptions import Events
    from mlxbridge.types import (
        Chunk,
        Embeddings,
        EmbedOptions,
        GenerateOptions,
        Generation,
        InputUsage,
        Message,
        ModelInfo,
        Options,
        Outcome,
        RankedDocument,
        Ranking,
        Request,
        RerankOptions,
        Status,
        TokenizeOptions,
        TokenLogprob,
        TokenLogprobs,
        ToolCall,
        Usage,
    )

_HOME = {
    "AsyncClient": "mlxbridge.guest.client",
    "AsyncEvents": "mlxbridge.guest.async_subscriptions",
    "AsyncOutcomes": "mlxbridge.guest.async_outcomes",
    "AsyncTokenStream": "mlxbridge.guest.async_streams",
    "AuthenticationError": "mlxbridge.errors",
    "BridgeError": "mlxbridge.errors",
    "Cancelled": "mlxbridge.errors",
    "Chunk": "mlxbridge.types",
    "Client": "mlxbridge.guest.blocking",
    "ConnectionLost": "mlxbridge.errors",
    "ContextTooLong": "mlxbridge.errors",
    "DeadlineExceeded": "mlxbridge.errors",
    "EmbedOptions": "mlxbridge.types",
    "Embeddings": "mlxbridge.types",
    "Events": "mlxbridge.guest.subscriptions",
    "GenerateOptions": "mlxbridge.types",
    "Generation": "mlxbridge.types",
    "GuestEvent": "mlxbridge.events",
    "HandshakeTimeout": "mlxbridge.errors",
    "HostNotFound": "mlxbridge.errors",
    "InputUsage": "mlxbridge.types",
    "InternalError": "mlxbridge.errors",
    "InvalidArgument": "mlxbridge.errors",
    "LimitExceeded": "mlxbridge.errors",
    "LostEvent": "mlxbridge.events",
    "Message": "mlxbridge.types",
    "ModelEvent": "mlxbridge.events",
    "ModelInfo": "mlxbridge.types",
    "ModelLoadFailed": "mlxbridge.errors",
    "ModelNotFound": "mlxbridge.errors",
    "ModelTooLarge": "mlxbridge.errors",
    "Options": "mlxbridge.types",
    "Outcome": "mlxbridge.types",
    "Outcomes": "mlxbridge.guest.outcomes",
    "Overloaded": "mlxbridge.errors",
    "PermissionDenied": "mlxbridge.errors",
    "ProtocolError": "mlxbridge.errors",
    "RankedDocument": "mlxbridge.types",
    "Ranking": "mlxbridge.types",
    "ReloadEvent": "mlxbridge.events",
    "RemoteError": "mlxbridge.errors",
    "Request": "mlxbridge.types",
    "RequestEvent": "mlxbridge.events",
    "RerankOptions": "mlxbridge.types",
    "Status": "mlxbridge.types",
    "StoreEvent": "mlxbridge.events",
    "TokenLogprob": "mlxbridge.types",
    "TokenLogprobs": "mlxbridge.types",
    "TokenStream": "mlxbridge.guest.streams",
    "TokenizeOptions": "mlxbridge.types",
    "ToolCall": "mlxbridge.types",
    "TransportError": "mlxbridge.errors",
    "Unavailable": "mlxbridge.errors",
    "UnknownMethod": "mlxbridge.errors",
    "Unsupported": "mlxbridge.errors",
    "Usage": "mlxbridge.types",
    "UsageError": "mlxbridge.errors",
    "VersionMismatch": "mlxbridge.errors",
    "WorkerLost": "mlxbridge.errors",
    "chat": "mlxbridge.guest.default",
    "count_tokens": "mlxbridge.guest.default",
    "delete_model": "mlxbridge.guest.default",
    "detokenize": "mlxbridge.guest.default",
    "embed": "mlxbridge.guest.default",
    "generate": "mlxbridge.guest.default",
    "generate_many": "mlxbridge.guest.default",
    "list_models": "mlxbridge.guest.default",
    "load_model": "mlxbridge.guest.default",
    "ping": "mlxbridge.guest.default",
    "pull_model": "mlxbridge.guest.default",
    "rerank": "mlxbridge.guest.default",
    "show_model": "mlxbridge.guest.default",
    "status": "mlxbridge.guest.default",
    "stream": "mlxbridge.guest.default",
    "subscribe": "mlxbridge.guest.default",
    "tokenize": "mlxbridge.guest.default",
    "unload_model": "mlxbridge.guest.default",
}

__all__ = [
    "AsyncClient",
    "AsyncEvents",
    "AsyncOutcomes",
    "AsyncTokenStream",
    "AuthenticationError",
    "BridgeError",
    "Cancelled",
    "Chunk",
    "Client",
    "ConnectionLost",
    "ContextTooLong",
    "DeadlineExceeded",
    "EmbedOptions",
    "Embeddings",
    "Events",
    "GenerateOptions",
    "Generation",
    "GuestEvent",
    "HandshakeTimeout",
    "HostNotFound",
    "InputUsage",
    "InternalError",
    "InvalidArgument",
    "LimitExceeded",
    "LostEvent",
    "Message",
    "ModelEvent",
    "ModelInfo",
    "ModelLoadFailed",
    "ModelNotFound",
    "ModelTooLarge",
    "Options",
    "Outcome",
    "Outcomes",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "RankedDocument",
    "Ranking",
    "ReloadEvent",
    "RemoteError",
    "Request",
    "RequestEvent",
    "RerankOptions",
    "Status",
    "StoreEvent",
    "TokenLogprob",
    "TokenLogprobs",
    "TokenStream",
    "TokenizeOptions",
    "ToolCall",
    "TransportError",
    "Unavailable",
    "UnknownMethod",
    "Unsupported",
    "Usage",
    "UsageError",
    "VersionMismatch",
    "WorkerLost",
    "__version__",
    "chat",
    "count_tokens",
    "delete_model",
    "detokenize",
    "embed",
    "errors",
    "generate",
    "generate_many",
    "list_models",
    "load_model",
    "ping",
    "pull_model",
    "rerank",
    "show_model",
    "status",
    "stream",
    "subscribe",
    "tokenize",
    "unload_model",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("mlxbridge.errors")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
