"""Runs every test on every case, in turn: A B C, then C B A, so that a busy minute of the machine hits all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec

from bench.wire.meter import Result
from bench.wire.plan import CASES, TESTS, Run, Settings
from bench.wire.turns import run_turns

TIMEOUT_S = 180


def missing(cases: Sequence[str]) -> dict[str, list[str]]:
    """The packages that cases need and this environment lacks."""
    lacks = {case: [name for name in CASES[case].needs if find_spec(name) is None] for case in cases}
    return {case: names for case, names in lacks.items() if names}


def run_all(
    cases: Sequence[str],
    tests: Sequence[str],
    num_rounds: int,
    settings: Settings,
    tell: Callable[[str], None],
) -> list[Run]:
    """All rounds; ``tell`` hears of each run before it begins."""
    runs = []
    alone = [test for test in tests if not TESTS[test].in_turn]
    for number in range(num_rounds):
        for test in alone:
            order = [case for case in cases if test in CASES[case].tests]
            for case in order if number % 2 == 0 else reversed(order):
                tell(f"round {number + 1} of {num_rounds}: {TESTS[test].title}: {CASES[case].title}")
                runs.append(Run(round=number, test=test, case=case, result=run_one(case, test, settings)))
    for test in tests:
        if TESTS[test].in_turn:
            chosen = [case for case in cases if test in CASES[case].tests]
            runs += run_turns(chosen, test, num_rounds, settings, tell)
    return runs


def run_one(case: str, test: str, settings: Settings) -> Result:
    """A fresh client, which starts a fresh server.

    Raises:
        RuntimeError: it failed; the message has what it wrote.
    """
    command = [sys.executable, "-m", "bench.wire.client", case, test, json.dumps(asdict(settings))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{case}, {test}: exit status {done.returncode}\n{done.stderr}")
    result: Result = json.loads(done.stdout)
    return result
