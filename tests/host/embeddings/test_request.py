from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest, check_embed, check_rerank


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"inputs": "text"}, "inputs"),
        ({"inputs": None}, "inputs"),
        ({"inputs": ["a", 3]}, "inputs[1]"),
        ({"inputs": ["a", b"b"]}, "inputs[1]"),
        ({"inputs": [[1, 2.0]]}, "inputs[0][1]"),
        ({"inputs": [[True]]}, "inputs[0][0]"),
        ({"prompt": 3}, "prompt"),
        ({"prompt_name": 3}, "prompt_name"),
        ({"prompt": "a", "prompt_name": "b"}, "prompt"),
        ({"normalize": 1}, "normalize"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"dimensions": 2.0}, "dimensions"),
        ({"dtype": "int8"}, "dtype"),
        ({"truncate": None}, "truncate"),
    ],
)
def test_wrong_embed_field_is_named(changes: dict[str, Any], field: str) -> None:
    fields: dict[str, Any] = {"inputs": ["text"], **changes}
    with pytest.raises(InvalidArgument) as caught:
        check_embed(EmbedRequest(**fields))
    assert caught.value.details == {"field": field} and caught.value.message.startswith(field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": ["text"]}, "query"),
        ({"documents": "text"}, "documents"),
        ({"documents": ["a", [1]]}, "documents[1]"),
        ({"activation": "softmax"}, "activation"),
        ({"truncate": "yes"}, "truncate"),
    ],
)
def test_wrong_rerank_field_is_named(changes: dict[str, Any], field: str) -> None:
    fields: dict[str, Any] = {"query": "who", "documents": ["text"], **changes}
    with pytest.raises(InvalidArgument) as caught:
        check_rerank(RerankRequest(**fields))
    assert caught.value.details == {"field": field}
