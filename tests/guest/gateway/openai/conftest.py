"""One host with models for chats, tools, vectors and ranking, and one gateway in front of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.guest.gateway.openai.sdk import KINDS, sdk_client
from tests.helpers import function_calling
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import HostProcess, run_host

REFERENCES = json.loads((Path(__file__).parents[3] / "host/embeddings/references.json").read_text())
CONFIG = """
default_model = "demo"
[models.demo]
aliases = ["gpt-4o"]
[models.caller]
source = "{folder}/caller"
[models.thinker]
source = "{folder}/thinker"
[models.finder]
source = "{folder}/finder"
[models.judge]
source = "{folder}/judge"
"""
CALL = '<tool_call>{{"name": "get_weather", "arguments": {{"city": "{}"}}}}</tool_call>'
SCRIPTS = {
    "Weather?": ["Let me see. ", CALL.format("Tokyo"), END],
    "Both?": [CALL.format("Berlin"), CALL.format("Rome"), END],
    "Broken?": ["<tool_call>no call", END],
    "<think>": ["I look it up.", "</think>", "Well.", END],
    "Shell?": ['<tool_call>{"name": "shell", "arguments": {"input": "ls -l"}}</tool_call>', END],
    "Search?": ['<tool_call>{"name": "web__find", "arguments": {"q": "rain"}}</tool_call>', END],
    "<scene:result>": ["It rains.", END],
    function_calling.QUESTION: function_calling.SCRIPT,
}
# Thinks as hard as it is told, and reads what it thought before; nothing switches that off.
THINKER_TEMPLATE = (
    "{%- for m in messages -%}<s>{{ m.role }}:{{ m.reasoning_content or '' }}{{ m.content or '' }}</s>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<s>assistant:"
    "{%- if reasoning_effort is defined -%}<effort:{{ reasoning_effort }}>{%- else -%}<think>{%- endif -%}"
    "{%- endif -%}"
)
THINKER_SCRIPTS = {
    "<think>": ["Hm.", "</think>", "Yes.", END],
    "<effort:high>": ["<think>", "Hm.", "</think>", "Yes.", END],
    "<effort:low>": ["Quick.", END],
}


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = tmp_path_factory.mktemp("models")
    save_scripted_model(folder / "caller", SCRIPTS)
    save_scripted_model(folder / "thinker", THINKER_SCRIPTS, template=THINKER_TEMPLATE)
    save_model(folder / "finder", REFERENCES["models"]["bert"])
    judge: dict[str, Any] = {"architectures": ["BertForSequenceClassification"]}
    save_model(folder / "judge", REFERENCES["classifiers"]["bert"], pooling=None, **judge)
    config = folder / "config.toml"
    config.write_text(CONFIG.format(folder=folder))
    with run_host("unix", "--config", str(config), models=()) as running:
        with running.client() as client:
            for model in ("demo", "caller", "thinker", "finder", "judge"):
                client.load_model(model, timeout=120)
        yield running


@pytest.fixture(scope="session")
def gateway(host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(host.url) as gateway:
        yield gateway


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        yield http


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, gateway: GatewayProcess) -> Iterator[Any]:
    with sdk_client(request.param, gateway.url) as client:
        yield client


@pytest.fixture
def blocking(gateway: GatewayProcess) -> Iterator[Any]:
    with sdk_client("blocking", gateway.url) as client:
        yield client
