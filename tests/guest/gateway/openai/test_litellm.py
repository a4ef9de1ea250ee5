"""LiteLLM's SDK and router ask the gateway.

LiteLLM holds openai and huggingface_hub to older versions than the tests have, and brings 336 MB with all that it needs. So it has
an environment of its own, which litellm.sh makes; alone, these tests take the one of MLXBRIDGE_LITELLM_PYTHON, or are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.guest.gateway.gateways import GatewayProcess

PYTHON = os.environ.get("MLXBRIDGE_LITELLM_PYTHON", sys.executable)
PROGRAM = Path(__file__).parent / "litellm_client.py"
CONFIG = Path(__file__).parents[4] / "guest/gateway/deploy/litellm.yaml"
FINDS_IT = "import importlib.util, sys; sys.exit(importlib.util.find_spec('litellm') is None)"

pytestmark = pytest.mark.skipif(
    subprocess.run([PYTHON, "-c", FINDS_IT]).returncode != 0,
    reason="there is no litellm here: litellm.sh installs it, or MLXBRIDGE_LITELLM_PYTHON names a Python that has it",
)


@pytest.fixture(scope="module")
def told(gateway: GatewayProcess) -> dict[str, Any]:
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # without which it asks GitHub
    env.pop("PYTHONPATH", None)
    command = [PYTHON, str(PROGRAM), gateway.url, str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_chat(told: dict[str, Any]) -> None:
    assert told["chat"] == ["27 + 15 = 42.", 12]


def test_stream(told: dict[str, Any]) -> None:
    assert told["stream"] == ["27 + 15 = 42.", []]


def test_tools(told: dict[str, Any]) -> None:
    calls = [[name, json.loads(arguments)] for name, arguments in told["tools"]]
    assert calls == [["get_weather", {"city": "Berlin"}], ["get_weather", {"city": "Rome"}]]
    assert told["tool_stream"][1] == told["tools"]


def test_embeddings(told: dict[str, Any]) -> None:
    first, second = told["vectors"]
    assert first == second > 0


def test_router_with_the_configuration_that_is_shown(told: dict[str, Any]) -> None:
    assert told["routed"] == "27 + 15 = 42."


def test_errors_are_litellms_own(told: dict[str, Any]) -> None:
    assert told["no_model"][0] == "NotFoundError"
    name, message = told["no_field"]
    assert name == "BadRequestError"
    assert "tempreature" in message
