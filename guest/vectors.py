"""``embed`` and ``rerank``: their arguments as params of a CALL, and their answers (SPEC.md §10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.guest.call import read_number, read_request_id
from mlxbridge.guest.calls import LIMITS
from mlxbridge.guest.requests import NOT_SENT, check_names, encode_token_ids, shown, wrong
from mlxbridge.protocol.events import DataReceived
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS, Windows
from mlxbridge.types import (
    Embeddings,
    EmbedInput,
    EmbedOptions,
    InputUsage,
    RankedDocument,
    Ranking,
    RerankOptions,
)

WINDOWS = Windows(items=0, bytes=LIMITS.max_payload_bytes)
"""For calls that are answered with one payload: it takes all its memory when it begins, so less credit would spare none."""

EMBED_OPTIONS = frozenset(EmbedOptions.__annotations__)
RERANK_OPTIONS = frozenset(RerankOptions.__annotations__)
_ITEM_BYTES = {"float32": 4, "float16": 2}


def embed_params(inputs: EmbedInput | Iterable[EmbedInput], options: EmbedOptions) -> dict[str, Any]:
    """Params of ``embed``: what was given, and ``normalize`` in any case.

    Raises:
        UsageError: a name that is none, or inputs that are neither texts nor token ids, or too many.
    """
    check_names(options, EMBED_OPTIONS, ("inputs",))
    given = {"normalize": True, **options}
    return {"inputs": _encode_inputs(inputs), **_without_none(given)}


def rerank_params(query: str, documents: Iterable[str], options: RerankOptions) -> dict[str, Any]:
    """Params of ``rerank``: what was given, and nothing else.

    Raises:
        UsageError: a name that is none, or no documents, or too many.
    """
    check_names(options, RERANK_OPTIONS, ("query", "documents"))
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        raise wrong("documents", f"must be several texts, not {shown(documents)}")
    texts = list(documents)
    _check_count("documents", texts)
    return {"query": query, "documents": texts, **_without_none(options)}


def read_embeddings(result: Mapping[str, Any], payloads: Sequence[DataReceived]) -> Embeddings:
    """The answer of ``embed``.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(payloads) != 1:
        raise RemoteProtocolError(f"embed: {len(payloads)} payloads came, not 1")
    meta, data = payloads[0].meta, payloads[0].data
    shape, dtype = meta.get("shape"), meta.get("dtype")
    if type(shape) is not list or len(shape) != 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise RemoteProtocolError(f"embed: the vectors' shape is {shown(shape)}")
    if dtype not in [*_ITEM_BYTES] or shape[0] * shape[1] * _ITEM_BYTES[dtype] != data.nbytes:
        raise RemoteProtocolError(f"embed: {data.nbytes} bytes are no {shown(dtype)} of shape {shape}")
    return Embeddings(
        shape=(shape[0], shape[1]), dtype=dtype, data=data, model=_model(result), usage=_usage(result)
    )


def read_ranking(result: Mapping[str, Any], documents: Sequence[str]) -> Ranking:
    """The answer of ``rerank``.

    Raises:
        RemoteProtocolError: it is none.
    """
    indices, scores = result.get("indices"), result.get("scores")
    if not (
        type(indices) is type(scores) is list
        and len(indices) == len(scores)
        and all(type(index) is int and 0 <= index < len(documents) for index in indices)
        and all(type(score) is float for score in scores)
    ):
        raise RemoteProtocolError("rerank: the result has no indices and scores of the documents")
    ranked = (RankedDocument(i, score, documents[i]) for i, score in zip(indices, scores, strict=True))
    return Ranking(results=tuple(ranked), model=_model(result), usage=_usage(result))


def _without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and name not in NOT_SENT}


def _encode_inputs(inputs: EmbedInput | Iterable[EmbedInput]) -> list[str | bytes]:
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs, bytes | bytearray | Mapping) or not isinstance(inputs, Iterable):
        raise wrong("inputs", f"must be a text or token ids, or several, not {shown(inputs)}")
    items: list[Any] = list(inputs)
    if items and all(map(_is_number, items)):  # one input of token ids
        return [encode_token_ids("inputs", items)]
    _check_count("inputs", items)
    return [
        item if isinstance(item, str) else _encode_ids(f"inputs[{place}]", item)
        for place, item in enumerate(items)
    ]


def _is_number(item: Any) -> bool:
    """Whether it may be a token id, of numpy's kinds too; true and false are a slip."""
    return isinstance(item, Integral) and not isinstance(item, bool)


def _check_count(field: str, items: Sequence[Any]) -> None:
    if len(items) > MAX_ARRAY_ITEMS:
        raise wrong(field, f"a call takes {MAX_ARRAY_ITEMS}, not {len(items)}: make several calls")


def _encode_ids(field: str, item: Any) -> bytes:
    if isinstance(item, bytes | bytearray | Mapping) or not isinstance(item, Iterable):
        raise wrong(field, f"must be a text or token ids, not {shown(item)}")
    return encode_token_ids(field, item)


def _model(result: Mapping[str, Any]) -> str:
    return str(result.get("model", ""))


def _usage(result: Mapping[str, Any]) -> InputUsage:
    return InputUsage(
        prompt_tokens=int(read_number(result, "prompt_tokens")),
        truncated=int(read_number(result, "truncated")),
        queue_seconds=read_number(result, "queue_ms") / 1000,
        compute_seconds=read_number(result, "compute_ms") / 1000,
        request_id=read_request_id(result),
    )
