"""One call at a time, in turn: A B C, then C B A. Each case keeps its two processes meanwhile, and sleeps while others have theirs.

So a pair of calls lies milliseconds apart, and what other jobs do to the machine hits both alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

from bench.wire.meter import Result
from bench.wire.plan import CASES, TESTS, Run, Settings

_SLOW_MS = 1000
"""A case whose calls take longer is asked once a round."""

Ask = Callable[[], Result]


def run_turns(
    cases: Sequence[str], test: str, num_rounds: int, settings: Settings, tell: Callable[[str], None]
) -> list[Run]:
    """As many turns a round as the settings say; each turn is a ``Run``, of all turns counted through."""
    runs = []
    with ExitStack() as stack:
        asks: dict[str, Ask] = {}
        for case in cases:
            tell(f"starting: {TESTS[test].title}: {CASES[case].title}")
            asks[case] = stack.enter_context(_caller(case, test, settings))
        slow: set[str] = set()
        for turn in range(num_rounds * settings.turns):
            is_first = turn % settings.turns == 0
            if is_first:
                tell(f"round {turn // settings.turns + 1} of {num_rounds}: {TESTS[test].title}")
            for case in cases if turn % 2 == 0 else reversed(cases):
                if is_first or case not in slow:
                    result = asks[case]()
                    slow |= {case} if result["ms"] > _SLOW_MS else set()
                    runs.append(Run(round=turn, test=test, case=case, result=result))
    return runs


@contextmanager
def _caller(case: str, test: str, settings: Settings) -> Iterator[Ask]:
    """A client process, which has made a call to warm up, and makes one more whenever it is asked."""
    command = [sys.executable, "-m", "bench.wire.client", case, test, json.dumps(asdict(settings))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def answer() -> str:
            return answers.readline() or sys.exit(f"{case}, {test}: the client has ended")

        def ask() -> Result:
            requests.write("\n")
            requests.flush()
            result: Result = json.loads(answer())
            return result

        answer()
        try:
            yield ask
        finally:
            requests.close()
            answers.read()  # its last words
