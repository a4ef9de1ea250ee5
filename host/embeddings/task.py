"""A call on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from mlxbridge.errors import BridgeError
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.tokenizer import Tokens
from mlxbridge.host.engine.interface import Origin

Request = EmbedRequest | RerankRequest

# A call of so few inputs is read when it comes; one of more is company enough for itself.
FEW_INPUTS = 16


@dataclass(slots=True, eq=False)
class Task:
    """A call that has not ended.

    Attributes:
        call: the caller's number for it.
        request: checked.
        origin: for whom it is.
        num_bytes: what it takes, results and all.
        arrived_at: of the engine's clock, as ``begun_at``, when its first batch began.
        values: what has been computed, and room for the rest.
        num_left: inputs without a result.
        num_read: inputs that were read, the first ones.
        num_tokens: of these.
        num_truncated: of these, how many lost their end.
        has_ended: nobody waits for it.
    """

    call: int
    request: Request
    origin: Origin
    num_bytes: int
    arrived_at: float
    values: NDArray[Any]
    num_left: int
    begun_at: float | None = None
    num_read: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    has_ended: bool = False

    @property
    def guest(self) -> str:
        """Who takes turns with whom."""
        return self.origin.guest

    @property
    def is_small(self) -> bool:
        """Whether it has few inputs."""
        return self.request.num_inputs <= FEW_INPUTS


class Input(NamedTuple):
    """An input that was read and waits to be computed; ``place`` is its place in the request."""

    task: Task
    place: int
    tokens: Tokens


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Output:
    """What a call comes to.

    Attributes:
        request: what was asked.
        values: ``[inputs, dimensions]`` vectors, or ``[documents]`` scores.
        num_tokens: that the model read.
        num_truncated: inputs whose end was cut off.
        queue_seconds: until its first batch began.
        compute_seconds: from then on.
    """

    request: Request
    values: NDArray[Any]
    num_tokens: int
    num_truncated: int
    queue_seconds: float
    compute_seconds: float


class Answer(NamedTuple):
    """How a call ended."""

    call: int
    outcome: Output | BridgeError


def num_left(task: Task) -> int:
    """Inputs without a result, to sort by."""
    return task.num_left
