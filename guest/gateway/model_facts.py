"""What has to be known of a model before it can be asked in the way of an API, which has no words to find that out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from mlxbridge.model_names import find_model
from mlxbridge.types import ModelInfo

if TYPE_CHECKING:
    from mlxbridge.guest.gateway.exchange import Exchange

_FRESH_S = 10.0


@dataclass(frozen=True)
class ModelFacts:
    """A model that generates.

    Attributes:
        name: its own.
        most_tokens: of prompt and answer together.
        reasoning_choices: what it can be asked of its reasoning.
        keeps_reasoning: it reads what earlier answers were reasoned.
    """

    name: str
    most_tokens: int
    reasoning_choices: tuple[bool, ...]
    keeps_reasoning: bool


class KnownModels:
    """Facts by the names that models were asked for, for ten seconds: asking the host takes as long as beginning a call.

    What the facts are follows from a model's files and the host's configuration, which hardly ever change.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._facts: dict[str | None, tuple[float, ModelFacts]] = {}

    def get(self, name: str | None) -> ModelFacts | None:
        """Those of a model; None if they are not known, or may be no more what they were."""
        until, facts = self._facts.get(name, (0.0, None))
        return facts if self._clock() < until else None

    def put(self, name: str | None, facts: ModelFacts) -> None:
        """They are these, as of now; what is no longer fresh is forgotten."""
        now = self._clock()
        self._facts = {known: entry for known, entry in self._facts.items() if now < entry[0]}
        self._facts[name] = (now + _FRESH_S, facts)


async def find_facts(exchange: Exchange, name: str | None) -> ModelFacts | None:
    """What there is to know of the model of that name, or of the host's default one; it is loaded if it is not.

    Returns:
        None where there is no such model, or none that could be asked: the host then says why.

    Raises:
        BridgeError: of the host.
        ClientGone: the caller went.
    """
    known = exchange.gateway.known_models
    if (facts := known.get(name)) is not None:
        return facts
    model = find_model(await exchange.run(exchange.client.list_models()), name)
    if model is not None and model.state not in ("ready", "failed"):
        model = await exchange.run(exchange.client.load_model(model.name))
    facts = None if model is None else facts_of(model)
    if facts is not None:
        known.put(name, facts)
    return facts


def facts_of(model: ModelInfo) -> ModelFacts | None:
    """What its host tells of a model; None if it is not ready, or generates nothing."""
    details = model.details
    if "reasoning_choices" not in details:
        return None
    return ModelFacts(
        name=model.name,
        most_tokens=details["most_tokens"],
        reasoning_choices=tuple(details["reasoning_choices"]),
        keeps_reasoning=details["keeps_reasoning"],
    )
