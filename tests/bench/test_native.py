import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.native.command import Run, render, summarise
from bench.native.prompts import random_prompts
from bench.native.sample import take


def test_sample_times_from_the_first_token_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.5, 11.5, 12.5])
    monkeypatch.setattr("bench.native.sample.perf_counter", lambda: next(moments))

    def tokens() -> Iterator[list[int]]:
        yield [1, 2]
        yield [3]
        yield []
        yield [4, 5, 6]

    assert take(tokens()) == {"ttft_ms": 500.0, "tokens_per_s": 2.0, "token_ids": [1, 2, 3, 4, 5, 6]}


def test_summary_pairs_the_rounds_whatever_their_order() -> None:
    def run(number: int, side: str, rate: float, ids: list[int]) -> Run:
        return Run(
            round=number, side=side, samples=[{"ttft_ms": 10.0, "tokens_per_s": rate, "token_ids": ids}]
        )

    runs = [run(0, "bridge", 90, [1, 2]), run(0, "inprocess", 100, [1, 2]), run(1, "inprocess", 50, [3])]
    runs += [run(1, "bridge", 48, [3]), run(0, "bare", 120, [1, 2]), run(1, "bare", 64, [3])]
    summary = summarise(runs)
    assert summary["ratios"]["inprocess"]["tokens_per_s"] == pytest.approx(0.93)
    assert summary["ratios"]["bare"]["tokens_per_s"] == pytest.approx(0.75)
    assert summary["same_answers"]
    assert "3 tokens each" in "\n".join(render(summary))
    for other in runs[3:]:
        kept, other.samples[0]["token_ids"] = other.samples[0]["token_ids"], [4]
        assert not summarise(runs)["same_answers"]
        other.samples[0]["token_ids"] = kept


def test_prompts_are_the_same_each_time_and_all_different() -> None:
    prompts = random_prompts(384, 16, 5)
    assert prompts == random_prompts(384, 16, 5)
    assert len({tuple(prompt) for prompt in prompts}) == 5
    assert all(2 <= token < 384 for prompt in prompts for token in prompt)


def test_mlx_lm_answers_in_the_workers_process(tmp_path: Path) -> None:
    file = tmp_path / "native.json"
    words = ["native", "--rounds", "2", "--answers", "1", "--tokens", "4", "--output", str(file)]
    subprocess.run([sys.executable, "-m", "bench", *words], check=True, capture_output=True)
    found = json.loads(file.read_text())
    assert found["summary"]["same_answers"] and found["summary"]["tokens"] == 8
    assert {run["side"] for run in found["rounds"]} == {"bridge", "inprocess", "bare"}
