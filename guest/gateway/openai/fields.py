"""The fields of a request's body: OpenAI's own, and beside them the host's options that OpenAI has no word for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.compat.refusal import check_members
from mlxbridge.types import EmbedOptions, GenerateOptions, RerankOptions, TokenizeOptions

_SAMPLED = {"frequency_penalty", "logit_bias", "max_tokens", "model", "n", "presence_penalty", "seed", "stop"}
_STREAMED = {"stream", "stream_options"}
_SHARED = {"temperature", "top_p", "user", *_SAMPLED, *_STREAMED}

CHAT = frozenset(
    {
        *_SHARED,
        "audio",
        "function_call",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "messages",
        "metadata",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "store",
        "tool_choice",
        "tools",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
COMPLETION = frozenset({*_SHARED, "best_of", "echo", "logprobs", "prompt", "suffix"})
EMBEDDING = frozenset({"dimensions", "encoding_format", "input", "model", "user"})

_PROMPTS = {"messages", "prompt"}
HOST = frozenset(GenerateOptions.__annotations__) - _PROMPTS
"""Options of the host for chats, completions and responses."""
EMBED_HOST = frozenset(EmbedOptions.__annotations__) - {"dtype"}  # which ``encoding_format`` says
RERANK_HOST = frozenset(RerankOptions.__annotations__)
TOKENIZE_HOST = frozenset(TokenizeOptions.__annotations__)


def split(body: Mapping[str, Any], own: frozenset[str], host: frozenset[str]) -> dict[str, Any]:
    """A body as openai's clients in Python would have been given it: the host's options in ``extra_body``.

    Args:
        body: of a request.
        own: the API's fields.
        host: the options of the host; those that the API has too mean what the API's do.

    Raises:
        UsageError: there is no such field; ``details["field"]`` names it.
    """
    check_members(body, own | host)
    extra = {name: value for name, value in body.items() if name not in own}
    return {**{name: value for name, value in body.items() if name in own}, "extra_body": extra}
