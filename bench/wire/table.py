"""Medians over the rounds, and ratios: of each round's pair first, then the median of those."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.stats import align, median, median_ratio, show
from bench.wire.plan import CASES, FLOOR, RELAY, RIVALS, TESTS, Metric, Run

Summary = dict[str, dict[str, dict[str, float]]]
"""By test, case, metric; ratios are under ``METRIC/floor``, ``METRIC/relay`` and ``METRIC/rival``."""


class Rounds:
    """The runs, by test, case and round."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._results = {(run.test, run.case, run.round): run.result for run in runs}
        self._numbers = sorted({run.round for run in runs})

    def tests(self) -> list[str]:
        return [test for test in TESTS if self.cases(test)]

    def cases(self, test: str) -> list[str]:
        found = {case for name, case, _ in self._results if name == test}
        return [case for case in CASES if case in found]

    def values(self, test: str, case: str, key: str) -> list[float | None]:
        """One a round; None where there is none."""
        return [self._results.get((test, case, number), {}).get(key) for number in self._numbers]

    def best(self, test: str, cases: Sequence[str], metric: Metric) -> list[float | None]:
        """The best of several cases, round by round."""
        choose = max if metric.more_is_better else min
        columns = zip(*(self.values(test, case, metric.key) for case in cases), strict=True)
        rows = [[value for value in column if value is not None] for column in columns]
        return [choose(row) if row else None for row in rows]


def summarise(runs: Sequence[Run]) -> Summary:
    """Every number of the table."""
    rounds = Rounds(runs)
    return {
        test: {case: _summarise_case(rounds, test, case) for case in rounds.cases(test)}
        for test in rounds.tests()
    }


def _summarise_case(rounds: Rounds, test: str, case: str) -> dict[str, float]:
    found = {}
    for metric in TESTS[test].metrics:
        mine = rounds.values(test, case, metric.key)
        found[metric.key] = median(value for value in mine if value is not None)
        if metric.key in TESTS[test].ratios:
            for name, others in (("floor", [FLOOR]), ("relay", [RELAY]), ("rival", RIVALS)):
                ratio = (
                    median_ratio(mine, rounds.best(test, others, metric)) if case not in others else math.nan
                )
                found[f"{metric.key}/{name}"] = ratio
    return {key: value for key, value in found.items() if not math.isnan(value)}


def render(summary: Summary) -> Iterator[str]:
    """The table, line by line."""
    for test, cases in summary.items():
        metrics = TESTS[test].metrics
        ratios = [metric for metric in metrics if metric.key in TESTS[test].ratios]
        titles = {metric.key: metric.title for metric in metrics}
        for metric in ratios:
            titles[f"{metric.key}/floor"] = f"{_short(metric)}/floor"
            titles[f"{metric.key}/relay"] = f"{_short(metric)}/two"
            titles[f"{metric.key}/rival"] = f"{_short(metric)}/gRPC"
        keys = [key for key in titles if any(key in values for values in cases.values())]
        rows = [[TESTS[test].title, *(titles[key] for key in keys)]]
        for case, values in cases.items():
            rows.append([CASES[case].title, *(show(values.get(key, math.nan)) for key in keys)])
        yield from align(rows)
        yield ""


def _short(metric: Metric) -> str:
    return metric.title.split()[0]
