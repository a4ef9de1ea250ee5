from __future__ import annotations

from mlxbridge.facts import summarize_facts


def test_model_in_a_list_is_told_with_its_other_names() -> None:
    facts = {
        "state": "ready",
        "source": "hub",
        "kind": "generate",
        "parameters": 1_845_312,
        "context_length": 1024,
        "aliases": ["small", "fast"],
        "adapters": ["sql"],
    }
    told = "generate, 1.8M parameters, context 1024, hub, aliases: small fast, adapters: sql"
    assert summarize_facts(facts) == told


def test_model_in_a_list_without_other_names_is_told_in_short() -> None:
    assert summarize_facts({"state": "unloaded", "source": "hub", "aliases": [], "adapters": []}) == "hub"
    assert summarize_facts({"state": "failed", "source": "hub", "error": "it is damaged"}) == "it is damaged"
