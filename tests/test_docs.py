"""What the documents show is what happens."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest

from mlxbridge.types import EmbedOptions, GenerateOptions, RerankOptions
from tests.helpers.command_line import run
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import save_scripted_model
from tests.integration.hosts import HostProcess, run_host

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(name: str, following: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```\n<!-- {following} -->", README, re.DOTALL)
    assert found, f"README.md has no block named {name}"
    return found.group(1)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One with the models that the examples name; the demo model answers where they name none."""
    folder = tmp_path_factory.mktemp("models")
    references = json.loads((ROOT / "tests/host/embeddings/references.json").read_text())
    finder, judge = folder / "all-MiniLM-L6-v2", folder / "ms-marco-MiniLM-L6-v2"
    save_model(finder, references["models"]["bert"])
    architectures = ["BertForSequenceClassification"]
    save_model(judge, references["classifiers"]["bert"], pooling=None, architectures=architectures)
    with run_host("unix", "--default-model", "demo", models=("demo", str(finder), str(judge))) as host:
        yield host


def test_readme_example_prints_what_the_readme_says(host: HostProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("example", "output")],
        env={**os.environ, "MLXBRIDGE_URL": host.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout == block("output", "end")


GUEST_README = (ROOT / "guest/README.md").read_text()


BLOCKS = re.findall(r"^```python\n(.*?)^```", GUEST_README, re.DOTALL | re.MULTILINE)


def run_block(code: str, host: HostProcess) -> str:
    """What a program prints; warnings are errors."""
    out, err = StringIO(), StringIO()
    with (
        tempfile.NamedTemporaryFile("w", suffix=".py") as program,
        patch.dict(os.environ, MLXBRIDGE_URL=host.url),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        program.write(code)
        program.flush()
        runpy.run_path(program.name, run_name="__main__")
    assert err.getvalue() == "", code
    return out.getvalue()


def test_guest_readme_blocks_run(host: HostProcess) -> None:
    blocks = [code for code in BLOCKS if not re.search(r"tools=|run_tools|\.embed\(", code)]
    assert len(blocks) >= 4
    said = [run_block(code, host) for code in blocks]
    assert said[0].startswith("27 + 15 = 42. stop ")
    assert "1, 2, 3" in said[0]
    assert re.search(r"20\.?\n0\.\d+\n\Z", said[0])
    assert said[1] == "Paris\n27 + 15 = 42\n"
    assert said[2].startswith("b'27' ") or "b'2' " in said[2]
    assert said[3].count("length") + said[3].count("stop") == 3
    assert said[4] == "27 + 15 = 42.\nThe capital of France is Paris. 5\n27 + 15 = 42.\n"
    assert "40 of 40: " in said[5] and ": 7 27 + 15 = 42.\n" in said[5]
    assert said[6] == "27 + 15 True\nTrue\n"
    assert "27 + 15 = 42. stop 12\n" in said
    assert "27 + 15 = 42. 28\n27 + 15 = 42.\n400 service_tier\n" in said


def test_guest_readme_blocks_that_call_tools_run(tmp_path: Path) -> None:
    free, enforced = (code for code in BLOCKS if "tools=" in code)
    (whole,) = (code for code in BLOCKS if "run_tools" in code)
    scripts = {
        "<think>": [
            "I look it up.",
            "</think>",
            "<tool_call>",
            '{"name": "get_weather", "arguments": ',
            '{"city": "Tokyo"}}',
            "</tool_call>",
            "</s>",
        ],
        "<scene:result>": ["It rains ", "in Tokyo.", "</s>"],
    }
    save_scripted_model(tmp_path / "caller", scripts)
    with run_host("unix", models=(str(tmp_path / "caller"),)) as host:
        said = run_block(free, host)
        noted = run_block(enforced, host)
        ran = run_block(whole, host)
    assert ran == "It rains in Tokyo. 1\n"
    assert noted in ("good\n", "bad\n")
    assert said == 'I look it up. -> get_weather({"city": "Tokyo"})\nIt rains in Tokyo.\n'


def test_guest_readme_block_that_embeds_runs(host: HostProcess) -> None:
    (code,) = (code for code in BLOCKS if ".embed(" in code)
    said = run_block(code, host).splitlines()
    assert said[0].startswith("(3, 32) float32 ") and said[1] in ("True", "False")
    assert len(said) == 4 and all(" True " in line for line in said[2:])


def test_guest_readme_explains_every_option_of_embed() -> None:
    section = GUEST_README[GUEST_README.index("## Embeddings") : GUEST_README.index("## Answers")]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(EmbedOptions.__annotations__)
    (options,) = re.findall(r"Options: (.*?)\n\n", section, re.DOTALL)
    assert set(RerankOptions.__annotations__) <= set(re.findall(r"`(\w+)`", options))


def test_guest_readme_explains_every_option() -> None:
    table = GUEST_README[GUEST_README.index("## Options") : GUEST_README.index("**Formats.**")]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(GenerateOptions.__annotations__)


def test_command_line_in_the_guest_readme_names_every_flag() -> None:
    flags: set[str] = set()
    for command in ([], ["generate"], ["chat"], ["batch"], ["embed"], ["rerank"], ["status"]):
        told = run(None, *command, "--help").stdout
        flags.update(re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE))
    section = GUEST_README[GUEST_README.index("## Command line") :]
    assert flags - {"--url", "--version"} == set(re.findall(r"--[a-z][a-z-]*", section))


def test_batch_in_the_guest_readme_gives_what_the_readme_says(host: HostProcess) -> None:
    section = GUEST_README[GUEST_README.index("`mlxbridge batch` reads") :]
    given, shown = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    done = run(host, "batch", "-", stdin=given)
    for line, expected in zip(done.stdout.splitlines(), shown.splitlines(), strict=True):
        assert line.startswith(expected.partition("…")[0])


def test_demo_command_answers_and_stops_cleanly() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlxbridge", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    assert "27 + 15 = 42." in done.stdout
    assert "The capital of France is Paris." in done.stdout
    assert re.search(r"\d+ tokens/s, first token after \d+ ms", done.stdout)
    assert "the host has stopped (exit status 0)" in done.stdout
    assert done.returncode == 0


def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *ROOT.glob("*/README.md"), ROOT / "protocol/SPEC.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert "://" in target or (document.parent / target).exists(), f"{document.name}: {target}"
