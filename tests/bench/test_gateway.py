"""``python -m bench gateway`` from end to end: a gateway, mlx_lm's own server and bare ones, on the demo model."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import ceiling, command
from bench.gateway.ceiling import CASES
from bench.gateway.command import SIDES

ROOT = Path(__file__).parents[2]


def bench(output: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    line = [sys.executable, "-m", "bench", "gateway", "--quick", "--output", str(output), *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    results: dict[str, list[dict[str, Any]]] = json.loads(output.read_text())
    return results


def test_both_servers_answer_the_same_clients(tmp_path: Path) -> None:
    runs = bench(tmp_path / "out.json", "--streams")["serving"]
    assert {run["side"] for run in runs} == set(SIDES)
    for run in runs:
        assert run["clients"] == 2
        assert 0 < run["tokens"] <= 24  # an answer may end before
        assert run["tokens_per_s"] > 0 and run["ttft_p99_ms"] >= run["ttft_p50_ms"] > 0


@pytest.mark.skipif(
    find_spec("aiohttp") is None, reason="a bare server needs aiohttp: pip install -e '.[bench]'"
)
def test_gateway_is_measured_beside_bare_servers(tmp_path: Path) -> None:
    runs = bench(tmp_path / "out.json", "--clients")["ceiling"]
    assert [run["side"] for run in runs] == list(CASES)
    assert all(run["tokens_per_s"] > 0 and run["cpu_us"] > 0 for run in runs)


def given(output: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["--quick", "--output", str(output), *arguments])


def test_what_is_not_installed_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "aiohttp" else name)
    with pytest.raises(SystemExit, match="aiohttp needs aiohttp: pip install"):
        command.run(given(tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()


def test_what_was_measured_is_kept_if_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: str, *_: object) -> dict[str, float]:
        if case == "aiohttp":
            raise ConnectionRefusedError
        return {"tokens_per_s": 1.0, "cpu_us": 2.0}

    monkeypatch.setattr(command, "find_spec", lambda name: name)
    monkeypatch.setattr(ceiling, "measure", measure)
    with pytest.raises(ConnectionRefusedError):
        command.run(given(tmp_path / "out.json", "--clients"))
    results = json.loads((tmp_path / "out.json").read_text())
    assert [run["side"] for run in results["ceiling"]] == list(CASES[:2])


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
