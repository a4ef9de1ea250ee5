"""The values that users see: chunks, results, models, status; and the options that they give.

Names are loaded when they are first used: who reads text has no use for vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlxbridge.types.chat import AnyTool, FunctionChoice, Message, NamedTool, Prompt, TextPart, ToolChoice
    from mlxbridge.types.generation import (
        Chunk,
        FinishReason,
        Generation,
        Outcome,
        TokenLogprob,
        TokenLogprobs,
        ToolCall,
        ToolRun,
        Usage,
    )
    from mlxbridge.types.models import MemoryStatus, ModelInfo, Progress, Status
    from mlxbridge.types.options import (
        CallOptions,
        GenerateOptions,
        KeepAlive,
        ManyPrompt,
        Options,
        Priority,
        Request,
        Speculation,
        TokenizeOptions,
    )
    from mlxbridge.types.vectors import (
        Embeddings,
        EmbedInput,
        EmbedOptions,
        InputUsage,
        RankedDocument,
        Ranking,
        RerankOptions,
        VectorType,
    )

__all__ = [
    "AnyTool",
    "CallOptions",
    "Chunk",
    "EmbedInput",
    "EmbedOptions",
    "Embeddings",
    "FinishReason",
    "FunctionChoice",
    "GenerateOptions",
    "Generation",
    "InputUsage",
    "KeepAlive",
    "ManyPrompt",
    "MemoryStatus",
    "Message",
    "ModelInfo",
    "NamedTool",
    "Options",
    "Outcome",
    "Priority",
    "Progress",
    "Prompt",
    "RankedDocument",
    "Ranking",
    "Request",
    "RerankOptions",
    "Speculation",
    "Status",
    "TextPart",
    "TokenLogprob",
    "TokenLogprobs",
    "TokenizeOptions",
    "ToolCall",
    "ToolChoice",
    "ToolRun",
    "Usage",
    "VectorType",
]

_HOME = {
    "AnyTool": "chat",
    "CallOptions": "options",
    "Chunk": "generation",
    "EmbedInput": "vectors",
    "EmbedOptions": "vectors",
    "Embeddings": "vectors",
    "FinishReason": "generation",
    "FunctionChoice": "chat",
    "GenerateOptions": "options",
    "Generation": "generation",
    "InputUsage": "vectors",
    "KeepAlive": "options",
    "ManyPrompt": "options",
    "MemoryStatus": "models",
    "Message": "chat",
    "ModelInfo": "models",
    "NamedTool": "chat",
    "Options": "options",
    "Outcome": "generation",
    "Priority": "options",
    "Progress": "models",
    "Prompt": "chat",
    "RankedDocument": "vectors",
    "Ranking": "vectors",
    "Request": "options",
    "RerankOptions": "vectors",
    "Speculation": "options",
    "Status": "models",
    "TextPart": "chat",
    "TokenLogprob": "generation",
    "TokenLogprobs": "generation",
    "TokenizeOptions": "options",
    "ToolCall": "generation",
    "ToolChoice": "chat",
    "ToolRun": "generation",
    "Usage": "generation",
    "VectorType": "vectors",
}


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"mlxbridge.types.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
