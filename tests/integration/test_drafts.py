"""A host with a draft model, from the command line to the usage."""

from __future__ import annotations

import pytest

from mlxbridge.errors import Unsupported
from tests.integration.hosts import TRANSPORTS, run_host

LONG = "Count from 1 to 20."


def test_drafts_change_no_answer_and_are_counted() -> None:
    with run_host(TRANSPORTS[0], "--draft-model", "demo") as host, host.client(timeout=60) as client:
        model = client.load_model("demo", timeout=120)
        assert model.details["draft_model"] == "demo"
        assert model.details["speculation"] == ["ngram", "draft"]
        plain = client.chat(LONG, speculation="off")
        assert plain.usage.draft_tokens == plain.usage.accepted_tokens == 0
        for options in ({}, {"speculation": "ngram"}, {"speculation": "draft", "max_draft_tokens": 3}):
            answer = client.chat(LONG, **options)
            assert answer.text == plain.text
            assert 0 <= answer.usage.accepted_tokens <= answer.usage.draft_tokens
        details = client.status().models[0].details
        assert details["accepted_tokens_total"] <= details["draft_tokens_total"]


def test_a_host_without_a_draft_model_says_so() -> None:
    with run_host(TRANSPORTS[0]) as host, host.client(timeout=60) as client:
        with pytest.raises(Unsupported, match="no draft model for demo") as caught:
            client.chat("What is 27 + 15?", speculation="draft", timeout=120)
        assert caught.value.details["field"] == "speculation"
        assert client.chat("What is 27 + 15?", speculation="ngram").text == "27 + 15 = 42."
