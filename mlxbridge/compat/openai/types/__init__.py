"""openai's types by their names, for annotations: what the calls give are ``objects``, what they take are dicts."""

from mlxbridge.compat.openai.objects import Choice as CompletionChoice
from mlxbridge.compat.openai.objects import (
    Completion,
    CompletionUsage,
    CreateEmbeddingResponse,
    Embedding,
    Model,
)
from mlxbridge.compat.openai.types.shared_params import (
    FunctionDefinition,
    FunctionParameters,
    ReasoningEffort,
    ResponseFormatJSONObject,
    ResponseFormatJSONSchema,
    ResponseFormatText,
)

ChatModel = str

__all__ = [
    "ChatModel",
    "Completion",
    "CompletionChoice",
    "CompletionUsage",
    "CreateEmbeddingResponse",
    "Embedding",
    "FunctionDefinition",
    "FunctionParameters",
    "Model",
    "ReasoningEffort",
    "ResponseFormatJSONObject",
    "ResponseFormatJSONSchema",
    "ResponseFormatText",
]
