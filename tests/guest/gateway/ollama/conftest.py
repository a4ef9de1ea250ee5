"""One gateway before a host with a model that answers, one that thinks and calls, and one that makes vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ollama import Client

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import HostProcess, run_host

REFERENCES = Path(__file__).parents[3] / "host" / "embeddings" / "references.json"
SCRIPTS = {
    "<think>": [
        "I ",
        "must ",
        "look.",
        "</think>",
        "Let me see. ",
        "<tool_call>",
        '{"name": "get_weather", ',
        '"arguments": {"city": ',
        '"東京"}}',
        "</tool_call>",
        END,
    ],
    "<scene:result>": ["It ", "rains.", END],
    "<scene:forever>": ["on ", "on, ", "on "],
}


@pytest.fixture(scope="session")
def models_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    root = tmp_path_factory.mktemp("models")
    bert = json.loads(REFERENCES.read_text())["models"]["bert"]
    save_scripted_model(root / "caller", SCRIPTS)
    finder = save_model(root / "finder", bert, normalizes=False)
    with run_host("unix", models=("demo", str(finder), str(root / "caller"))) as host:
        yield host


@pytest.fixture(scope="session")
def ollama_gateway(models_host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(models_host.url) as gateway:
        yield gateway


@pytest.fixture
def ollama(ollama_gateway: GatewayProcess) -> Iterator[Client]:
    with Client(ollama_gateway.url, timeout=120) as client:
        yield client


@pytest.fixture
def raw(ollama_gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ollama_gateway.url, timeout=120) as raw:
        yield raw
