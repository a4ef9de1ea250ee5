"""What openai has and a host has not, with what there is in its place."""

from __future__ import annotations

from mlxbridge.compat.refusal import MissingAttribute

_HTTP = "there is no HTTP on the way to the host"
_WHY = {
    "`mlxbridge gateway` has it, over HTTP; here there is chat.completions": (
        *("responses", "pydantic_responses_function_tool", "beta.responses"),
    ),
    "the host keeps no files of guests; Client.generate_many and `mlxbridge batch` answer many prompts": (
        *("files", "uploads", "batches", "File", "file_from_path"),
    ),
    "the host's models read and write text": (
        *("audio", "images", "videos", "realtime", "live", "beta.realtime", "Audio", "Image"),
    ),
    "the host trains nothing; adapters of mlx_lm.lora are models here, NAME+ADAPTER": (
        *("fine_tuning", "evals", "FineTune", "FineTuningJob"),
    ),
    "the host stores nothing of what it was asked; mlxbridge.Conversation keeps messages": (
        *("conversations", "containers", "vector_stores", "beta.assistants", "beta.threads"),
        *(f"chat.completions.{name}" for name in ("list", "retrieve", "update", "delete", "messages")),
    ),
    "the host moderates nothing": ("moderations", "safety", "Moderation"),
    "Client.delete_model has it, where the host lets guests": ("models.delete",),
    "OpenAI and AsyncOpenAI are the clients of a host": (
        *("AzureOpenAI", "AsyncAzureOpenAI", "BedrockOpenAI", "AsyncBedrockOpenAI"),
    ),
    f"{_HTTP}; create(…, stream=True) gives chunks as they come": ("with_streaming_response",),
    _HTTP: (
        *("APIResponse", "AsyncAPIResponse", "HttpxBinaryResponseContent", "Transport", "ProxiesTypes"),
        *(
            "DefaultHttpxClient",
            "DefaultAsyncHttpxClient",
            "DefaultAioHttpClient",
            "webhooks",
            "default_headers",
        ),
        *("get", "post", "put", "patch", "delete", "request"),
    ),
    "this is no openai of a version; mlxbridge.__version__ is what there is": (
        "__version__",
        "version",
        "VERSION",
    ),
}
_REASONS = {name: why for why, names in _WHY.items() for name in names}
_THERE_IS = "there is chat.completions, completions, embeddings and models"


def missing(name: str) -> MissingAttribute:
    """The error for something that openai has, such as "files" or "chat.completions.list"."""
    why = _REASONS.get(name) or _REASONS.get(name.rpartition(".")[2]) or _THERE_IS
    return MissingAttribute(f"the host has nothing like openai's {name!r}: {why}")
