"""What a gateway remembers of a host's models."""

from __future__ import annotations

from mlxbridge.guest.gateway.model_facts import KnownModels, ModelFacts, facts_of
from mlxbridge.types import ModelInfo

FACTS = ModelFacts(name="m", most_tokens=8, reasoning_choices=(True,), keeps_reasoning=False)


def test_facts_are_remembered_for_a_while() -> None:
    now = 100.0
    known = KnownModels(lambda: now)
    assert known.get("m") is None
    known.put("m", FACTS)
    assert (known.get("m"), known.get("n")) == (FACTS, None)
    now += 9.9
    assert known.get("m") is FACTS
    now += 0.2
    assert known.get("m") is None


def test_facts_that_are_no_longer_fresh_are_forgotten() -> None:
    now = 100.0
    known = KnownModels(lambda: now)
    for _ in range(3):
        known.put(f"m{now}", FACTS)
        now += 10.0
    known.put("m", FACTS)
    now = 100.0
    assert known.get("m") is FACTS and known.get("m100.0") is known.get("m120.0") is None


def test_nothing_is_known_of_what_generates_nothing() -> None:
    assert facts_of(ModelInfo(name="m", state="ready", source="")) is None
