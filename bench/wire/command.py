"""``python -m bench wire``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from bench import machine
from bench.wire.plan import CASES, FULL, QUICK, TESTS
from bench.wire.rounds import missing, run_all
from bench.wire.table import render, summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="how often to run each case (default: 5, with --quick 1)")
    parser.add_argument(
        "--cases", type=_names(CASES), default=list(CASES), metavar="A,B", help=", ".join(CASES)
    )
    parser.add_argument(
        "--tests", type=_names(TESTS), default=list(TESTS), metavar="A,B", help=", ".join(TESTS)
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that it works, measures nothing"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/wire-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    for case, names in missing(arguments.cases).items():
        sys.exit(
            f"{case} needs {', '.join(names)}: pip install -e '.[host,bench]', or choose others with --cases"
        )
    settings = QUICK if arguments.quick else FULL
    num_rounds = arguments.rounds or (1 if arguments.quick else 5)
    about = machine.describe()
    runs = run_all(arguments.cases, arguments.tests, num_rounds, settings, _tell)
    summary = summarise(runs)
    print(machine.summary(about))
    print(f"medians of {num_rounds} rounds\n")
    for line in render(summary):
        print(line)
    path = machine.results_path("wire", arguments.output)
    machine.save(
        {
            "bench": "wire",
            **about,
            "settings": asdict(settings),
            "summary": summary,
            "rounds": [asdict(run) for run in runs],
        },
        path,
    )
    print(f"all rounds: {path}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse
