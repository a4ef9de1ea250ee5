"""The part of the gateway's page that is about OpenAI: what it shows is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from mlxbridge.compat.openai.parameters import HARMLESS
from mlxbridge.guest.gateway.openai.responses.request import HARMLESS as OF_RESPONSES
from mlxbridge.guest.gateway.openai.routes import routes
from tests.guest.gateway.gateways import GatewayProcess

README = (Path(__file__).parents[4] / "guest/gateway/README.md").read_text()
SECTION = README.partition("\n## OpenAI\n")[2].partition("\n## ")[0]


def test_example_runs(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert "http://127.0.0.1:8000/v1" in code
    exec(code.replace("http://127.0.0.1:8000", gateway.url) + "\nclient.close()", {})
    assert capsys.readouterr().out == "27 + 15 = 42."


def test_formats_of_the_hosts_own_are_kept_to(http: httpx.Client) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)
    chat = [{"role": "user", "content": "What is 27 + 15?"}]
    for line, kept in zip(block.split("\n"), (r"\d{3}", r"It is \d\d\.", "yes|no"), strict=False):
        body = {"model": "demo", "messages": chat, "response_format": json.loads(line)}
        answer = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        assert re.fullmatch(kept, answer), line


def test_every_path_is_told() -> None:
    told = SECTION.replace("/v1/models/{id}", "/v1/models/{model:path}")
    for route in routes:
        if not route.path.startswith(("/v1/tokenize", "/v1/detokenize", "/v1/responses/{")):
            assert f"{route.path}`" in told, route.path


def test_what_changes_nothing_is_told() -> None:
    harmless = SECTION.partition("Harmless")[2].partition("All else")[0]
    assert all(f"`{name}`" in harmless for name in HARMLESS | OF_RESPONSES)
