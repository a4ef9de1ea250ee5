"""Vectors and models as openai's objects."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, cast

from mlxbridge.compat.openai.objects import CreateEmbeddingResponse, Embedding, Model, Object, Page
from mlxbridge.compat.openai.parameters import HARMLESS, check_names, is_left_out, take_extra
from mlxbridge.compat.refusal import refused
from mlxbridge.errors import ModelNotFound
from mlxbridge.model_names import find_model, names_to_ask
from mlxbridge.types import Embeddings, EmbedOptions, ModelInfo

_SAME = ("model", "dimensions", "timeout")
_KNOWN = HARMLESS.union(_SAME, ("input", "encoding_format", "extra_body"))
_OPTIONS = frozenset(EmbedOptions.__annotations__)


def embed_plan(given: Mapping[str, Any]) -> tuple[Any, EmbedOptions, bool]:
    """What ``embeddings.create`` was given: the inputs, the host's options, and whether vectors are wanted in base64.

    Raises:
        UsageError: a parameter is none, or the host has nothing like it; ``details["field"]`` names it.
    """
    left = {name: value for name, value in given.items() if value is not None and not is_left_out(value)}
    check_names(left, _KNOWN, _OPTIONS)
    inputs, encoding = left.pop("input", None), left.pop("encoding_format", "float")
    extra = cast(EmbedOptions, take_extra(left, _OPTIONS))
    options = cast(EmbedOptions, {name: left[name] for name in _SAME if name in left})
    if encoding not in ("float", "base64"):
        raise refused("encoding_format", f'must be "float" or "base64", not {encoding!r}')
    if inputs is None:
        raise refused("input", "must be a text, token ids, or a list of either")
    return inputs, {**options, **extra}, encoding == "base64"


def embedding_response(found: Embeddings, as_base64: bool) -> CreateEmbeddingResponse:
    """The vectors."""
    vectors: Iterable[Any]
    if as_base64:
        size = len(found.data) // max(len(found), 1)
        rows = range(0, len(found.data), size) if size else ()
        vectors = [b64encode(found.data[at : at + size]).decode() for at in rows]
    else:
        vectors = found.tolist()
    tokens = found.usage.prompt_tokens
    made = CreateEmbeddingResponse(
        data=[
            Embedding(embedding=vector, index=index, object="embedding")
            for index, vector in enumerate(vectors)
        ],
        model=found.model,
        object="list",
        usage=Object(prompt_tokens=tokens, total_tokens=tokens),
    )
    made._request_id = found.usage.request_id
    return made


def model_page(models: Iterable[ModelInfo]) -> Page:
    """The host's models, by all their names; it does not tell when they were made, so ``created`` is 0."""
    return Page(data=[_model(name) for model in models for name in names_to_ask(model)], object="list")


def model_named(models: Iterable[ModelInfo], name: str) -> Model:
    """The one of that name, with that alias, or with that adapter; called so.

    Raises:
        ModelNotFound: there is none.
    """
    known = list(models)
    if find_model(known, name) is None:
        names = ", ".join(model.name for model in known)
        raise ModelNotFound(f"this host has no model {name!r}; it has {names}", details={"field": "model"})
    return _model(name)


def _model(name: str) -> Model:
    return Model(id=name, created=0, object="model", owned_by="mlxbridge")
