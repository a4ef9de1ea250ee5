"""The part of the gateway's page that is about Ollama: what it shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlxbridge.guest.gateway.ollama.options import HARMLESS
from mlxbridge.guest.gateway.ollama.routes import routes
from tests.guest.gateway.gateways import GatewayProcess

README = (Path(__file__).parents[4] / "guest/gateway/README.md").read_text()
SECTION = README.partition("\n## Ollama\n")[2].partition("\n## ")[0]


def test_example_runs(ollama_gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert "http://127.0.0.1:8000" in code
    exec(code.replace("http://127.0.0.1:8000", ollama_gateway.url) + "\nclient.close()", {})
    told = capsys.readouterr().out
    assert told and f"# {told}\n" in code


def test_every_path_is_told() -> None:
    for route in routes:
        assert f"{route.path.removesuffix('/{digest}')}`" in SECTION, route.path


def test_what_changes_nothing_is_told() -> None:
    harmless = SECTION.partition("change nothing")[2].partition("Refused by name")[0]
    assert all(f"`{name}`" in harmless for name in HARMLESS)
