"""The paths of OpenAI's API, and those of rerankers and tokenizers that other servers have beside it."""

from __future__ import annotations

from mlxbridge.guest.gateway.endpoint import Handler, route
from mlxbridge.guest.gateway.openai.chat import create_chat_completion
from mlxbridge.guest.gateway.openai.completions import create_completion
from mlxbridge.guest.gateway.openai.embeddings import create_embeddings
from mlxbridge.guest.gateway.openai.errors import OPENAI
from mlxbridge.guest.gateway.openai.models import list_models, retrieve_model
from mlxbridge.guest.gateway.openai.rerank import rerank
from mlxbridge.guest.gateway.openai.responses.handlers import (
    count_input_tokens,
    create_response,
    find_response,
)
from mlxbridge.guest.gateway.openai.tokens import detokenize, tokenize

_POSTS: dict[str, Handler] = {
    "/v1/chat/completions": create_chat_completion,
    "/v1/completions": create_completion,
    "/v1/embeddings": create_embeddings,
    "/v1/responses": create_response,
    "/v1/responses/input_tokens": count_input_tokens,
    **dict.fromkeys(("/v1/rerank", "/v2/rerank", "/rerank"), rerank),
    **dict.fromkeys(("/v1/tokenize", "/tokenize"), tokenize),
    **dict.fromkeys(("/v1/detokenize", "/detokenize"), detokenize),
}

routes = [
    route(OPENAI, "/v1/models", GET=list_models),
    route(OPENAI, "/v1/models/{model:path}", GET=retrieve_model),
    *(route(OPENAI, path, POST=handler) for path, handler in _POSTS.items()),
    route(
        OPENAI,
        "/v1/responses/{response_id:path}",
        GET=find_response,
        DELETE=find_response,
        POST=find_response,
    ),
]
