"""``python -m bench wire`` from end to end, with what the host extra brings; the rivals only where they are installed."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.wire.plan import CASES, TESTS, Run
from bench.wire.rounds import missing
from bench.wire.table import render, summarise

pytest.importorskip("numpy", reason="the wire benchmark sends numpy arrays: pip install -e '.[host]'")
pytest.importorskip("uvloop", reason="the benchmark's host runs on uvloop: pip install -e '.[host]'")

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "wire", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def run_quick(tmp_path: Path, cases: str, tests: str) -> dict[str, Any]:
    output = tmp_path / "out" / "wire.json"
    done = bench("--quick", "--cases", cases, "--tests", tests, "--output", str(output))
    assert done.returncode == 0, done.stderr
    for test in tests.split(","):
        assert TESTS[test].title in done.stdout
    results: dict[str, Any] = json.loads(output.read_text())
    return results


def check_results(results: dict[str, Any], cases: list[str], tests: list[str]) -> None:
    assert results.keys() == {
        "bench", "date", "command", "commit", "machine", "versions", "settings", "summary", "rounds"
    }  # fmt: skip
    assert results["bench"] == "wire"
    assert results["machine"].keys() == {"system", "processor", "cores", "load"}
    wanted = {(test, case) for case in cases for test in tests if test in CASES[case].tests}
    assert {(run["test"], run["case"]) for run in results["rounds"]} == wanted
    for run in results["rounds"]:
        for metric in TESTS[run["test"]].metrics:
            assert run["result"][metric.key] >= 0, (run, metric)
            assert metric.key in results["summary"][run["test"]][run["case"]]
        assert run["result"].get("tokens_per_chunk", 1) == 1, (
            "tokens were merged: the server was ahead of the client"
        )


def test_quick_run_without_rivals_measures_everything(tmp_path: Path) -> None:
    cases = ["floor", "bridge"]
    # The others differ from these in numbers alone.
    tests = [test for test in TESTS if test not in ("stream_1", "bulk_16mb")]
    results = run_quick(tmp_path, ",".join(cases), ",".join(tests))
    check_results(results, cases, tests)
    assert "p50_us/floor" in results["summary"]["round_trip"]["bridge"]


def test_quick_run_on_uvloop_measures_calls_of_each_kind(tmp_path: Path) -> None:
    tests = ["stream_64", "mixed"]
    check_results(run_quick(tmp_path, "bridge-uvloop", ",".join(tests)), ["bridge-uvloop"], tests)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].needs])
def test_quick_run_of_a_rival_measures_everything(tmp_path: Path, case: str) -> None:
    for name in CASES[case].needs:
        if find_spec(name) is None:
            pytest.skip(f"no {name}: pip install -e '.[host,bench]' to measure the rivals")
    tests: list[str] = [test for test in ("stream_64", "bulk_1mb", "vectors") if test in CASES[case].tests]
    tests = tests[:1]
    check_results(run_quick(tmp_path, case, ",".join(tests)), [case], tests)


def test_unknown_case_is_refused_with_those_there_are() -> None:
    done = bench("--cases", "flor")
    assert done.returncode == 2
    assert "'flor' is none of floor, floor-relay" in done.stderr


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.wire.rounds.find_spec", lambda name: None)
    assert missing(["floor", "grpc-json"]) == {"grpc-json": ["grpc"]}


def test_ratios_compare_with_the_faster_rival_of_each_round() -> None:
    values = {
        "floor": (10.0, 40.0),
        "bridge": (20.0, 120.0),
        "grpc-json": (200.0, 2400.0),
        "grpc-json-aio": (400.0, 1200.0),
    }
    runs = [
        Run(round=number, test="round_trip", case=case, result={"p50_us": p50, "cpu": p50})
        for case, both in values.items()
        for number, p50 in enumerate(both)
    ]
    summary = summarise(runs)
    found = summary["round_trip"]["bridge"]
    assert found["p50_us"] == 70
    assert found["p50_us/floor"] == 2.5
    assert found["p50_us/rival"] == 0.1
    assert "p50_us/floor" not in summary["round_trip"]["floor"]
    assert not any(math.isnan(value) for value in found.values())
    assert "0.100" in "\n".join(render(summary))
