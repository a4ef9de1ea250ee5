"""``python -m bench embed`` from end to end, without its rivals, which may not be installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.embed.command import Run, render, summarise
from bench.embed.folder import short_texts

pytest.importorskip("mlx", reason="the benchmark runs a model: pip install -e '.[host]'")
ROOT = Path(__file__).parents[2]


def test_quick_run_measures_the_model_and_the_way(tmp_path: Path) -> None:
    output = tmp_path / "embed.json"
    command = [sys.executable, "-m", "bench", "embed", "--quick", "--cases", "floor,bridge,bridge-worker"]
    done = subprocess.run(
        [*command, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert results["texts"] == 200 and results["model"].startswith("tiny")
    summary = results["summary"]
    assert summary["model"]["ratio"] > 0 and summary["model"]["largest_difference"] < 1e-4
    assert summary["vectors"].keys() == {"floor", "bridge", "bridge-worker"}
    assert all(case["gb_per_s"] > 0 for case in summary["vectors"].values())
    assert "ratio of the pairs" in done.stdout


def test_case_that_is_none_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "bench", "embed", "--cases", "flor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode and "floor" in done.stderr


def test_ratio_is_that_of_the_rounds_pairs() -> None:
    seconds = {"bridge": [2.0, 5.0, 1.0], "inprocess": [1.0, 4.0, 0.9]}
    runs = [
        Run(
            round=number,
            side=side,
            seconds=each,
            cpu_seconds=2 * each,
            largest_difference=number / 10,
        )
        for side, all_of_it in seconds.items()
        for number, each in enumerate(all_of_it)
    ]
    summary = summarise(runs, 100)
    assert summary["ratio"] == pytest.approx(0.8)
    assert summary["cpu_ratio"] == pytest.approx(1.25)
    assert (summary["bridge"]["texts_per_s"], summary["largest_difference"]) == (50, 0.2)
    assert "2.0e-01" in "\n".join(render(summary))


def test_texts_are_short_and_the_same_each_time() -> None:
    texts = short_texts(500)
    assert texts == short_texts(500) and len(set(texts)) > 490
    assert all(2 <= len(text.split()) <= 16 for text in texts)
