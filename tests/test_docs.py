"""What the documents show is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.hosts import run_host

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(name: str, following: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```\n<!-- {following} -->", README, re.DOTALL)
    assert found, f"README.md has no block named {name}"
    return found.group(1)


def test_readme_example_prints_what_the_readme_says() -> None:
    with run_host("unix") as host:
        done = subprocess.run(
            [sys.executable, "-c", block("example", "output")],
            env={**os.environ, "MLXBRIDGE_URL": host.url},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.stderr == ""
    assert done.stdout == block("output", "end")


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
