"""``python -m bench gateway`` from end to end: a gateway, mlx_lm's own server and bare ones, on the demo model."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import command
from bench.gateway.ceiling import CASES
from bench.gateway.command import SIDES

ROOT = Path(__file__).parents[2]


def bench(output: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    line = [sys.executable, "-m", "bench", "gateway", "--rounds", "1", "--output", str(output), *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    results: dict[str, list[dict[str, Any]]] = json.loads(output.read_text())
    return results


def test_both_servers_answer_the_same_clients(tmp_path: Path) -> None:
    asked = ["--clients", "2", "--requests", "1", "--tokens", "8", "--streams"]
    runs = bench(tmp_path / "out.json", *asked)["serving"]
    assert {run["side"] for run in runs} == set(SIDES)
    for run in runs:
        assert run["clients"] == 2
        assert 0 < run["tokens"] <= 24  # an answer may end before
        assert run["tokens_per_s"] > 0 and run["ttft_p99_ms"] >= run["ttft_p50_ms"] > 0


@pytest.mark.skipif(
    find_spec("aiohttp") is None, reason="a bare server needs aiohttp: pip install -e '.[bench]'"
)
def test_gateway_is_measured_beside_bare_servers(tmp_path: Path) -> None:
    asked = ["--clients", "--streams", "2", "--seconds", "0.2"]
    runs = bench(tmp_path / "out.json", *asked)["ceiling"]
    assert [run["side"] for run in runs] == list(CASES)
    assert all(run["tokens_per_s"] > 0 and run["cpu_us"] > 0 for run in runs)


def test_ratios_are_of_pairs_of_one_round() -> None:
    runs = [
        {"round": number, "side": side, "streams": 4, "cpu_us": value}
        for number, (ours, theirs) in enumerate([(1.0, 2.0), (9.0, 3.0), (3.0, 4.0)])
        for side, value in (("gateway", ours), ("uvicorn", theirs))
    ]
    lines = list(
        command.render(
            runs, "streams", {"gateway": "ours", "uvicorn": "theirs"}, {"cpu_us": "CPU"}, "gateway"
        )
    )
    assert [line.split()[-1] for line in lines[1:]] == ["3.00", "3.00", "0.750"]
