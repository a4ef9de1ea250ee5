"""What is asked of an embedding model or a reranker, and what any of them would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mlxbridge.host.engine.refusal import invalid, shown
from mlxbridge.types import VectorType

Activation = Literal["sigmoid", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Inputs that each become one vector.

    Attributes:
        inputs: texts, or token ids as they are, special tokens among them; either may stand beside the other.
        prompt: text to put before every input; "" for none. Not for token ids.
        prompt_name: the same, by its name in the model's files; without both, the files' default, if they have one.
        normalize: whether vectors have length 1; None: as the model's files say.
        dimensions: first numbers of each vector to keep (Kusupati et al., "Matryoshka Representation Learning",
            2022), before it is normalized; None: as the files say, all as a rule.
        dtype: of the vectors.
        truncate: whether inputs over the model's limit lose their end, in place of being refused.
    """

    inputs: Sequence[str | Sequence[int]]
    prompt: str | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    dtype: VectorType = "float32"
    truncate: bool = False

    @property
    def num_inputs(self) -> int:
        """Vectors that are asked for."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """Documents that each get a score for how well they answer a query.

    Attributes:
        query: a text.
        documents: texts.
        activation: of the scores; None: as the model's files say, "sigmoid" as a rule.
        truncate: whether pairs over the model's limit lose the end of the longer text, in place of being refused.
        top_n: so many of the best are wanted; None: all.
    """

    query: str
    documents: Sequence[str]
    activation: Activation | None = None
    truncate: bool = False
    top_n: int | None = None

    @property
    def num_inputs(self) -> int:
        """Scores to compute."""
        return len(self.documents)


def check_embed(request: EmbedRequest) -> None:
    """Check everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    inputs: Any = request.inputs
    _check_list("inputs", inputs)
    for index, item in enumerate(inputs):
        if not isinstance(item, str):
            _check_ids(f"inputs[{index}]", item)
    _check_text("prompt", request.prompt)
    _check_text("prompt_name", request.prompt_name)
    if request.prompt is not None and request.prompt_name is not None:
        raise invalid("prompt", "does not go with prompt_name: give one of them")
    if request.normalize is not None:
        _check_bool("normalize", request.normalize)
    if request.dimensions is not None:
        _check_count("dimensions", request.dimensions)
    _check_choice("dtype", request.dtype, get_args(VectorType))
    _check_bool("truncate", request.truncate)


def check_rerank(request: RerankRequest) -> None:
    """Check everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    documents: Any = request.documents
    if not isinstance(request.query, str):
        raise invalid("query", f"must be a text, not {shown(request.query)}")
    _check_list("documents", documents)
    for index, document in enumerate(documents):
        if not isinstance(document, str):
            raise invalid(f"documents[{index}]", f"must be a text, not {shown(document)}")
    if request.activation is not None:
        _check_choice("activation", request.activation, get_args(Activation))
    if request.top_n is not None:
        _check_count("top_n", request.top_n)
    _check_bool("truncate", request.truncate)


def _check_list(field: str, value: Any) -> None:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise invalid(field, f"must be a list, not {shown(value)}")


def _check_count(field: str, value: Any) -> None:
    if type(value) is not int:
        raise invalid(field, f"must be a whole number, not {shown(value)}")
    if value < 1:
        raise invalid(field, f"must be at least 1, not {value}")


def _check_ids(field: str, ids: Any) -> None:
    if isinstance(ids, bytes) or not isinstance(ids, Sequence):
        raise invalid(field, f"must be a text or a list of token ids, not {shown(ids)}")
    if set(map(type, ids)) - {int}:
        index, token = next((index, token) for index, token in enumerate(ids) if type(token) is not int)
        raise invalid(f"{field}[{index}]", f"must be a token id, not {shown(token)}")


def _check_text(field: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise invalid(field, f"must be a text, not {shown(value)}")


def _check_bool(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise invalid(field, f"must be true or false, not {shown(value)}")


def _check_choice(field: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise invalid(field, f"must be one of {', '.join(choices)}, not {shown(value)}")
