"""The part of the gateway's page that is about OpenAI: what it shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_every_path_is_told() -> None:
    told = SECTION.replace("/v1/models/{id}", "/v1/models/{model:path}")
    for route in routes:
        if not route.path.startswith(("/v1/tokenize", "/v1/detokenize", "/v1/responses/{")):
            assert f"{route.path}`" in told, route.path


def test_what_changes_nothing_is_told() -> None:
    harmless = SECTION.partition("Harmless")[2].partition("All else")[0]
    assert all(f"`{name}`" in harmless for name in HARMLESS | OF_RESPONSES)
