"""``python -m bench engine``: our engine beside mlx_lm, in one process, in turn, round after round."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.shapes import SHAPES
from bench.stats import show
from mlxbridge.host.engine.environment import prepare_environment

if TYPE_CHECKING:
    from bench.engine.cases import Found
    from bench.engine.plan import Case

ROWS = (1, 2, 4, 8, 16, 32, 64)
MAX_ROWS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="tiny", choices=SHAPES)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--rounds", type=_at_least(1), default=5)
    parser.add_argument("--seconds", type=_at_least(1), help="begin no round after so many")
    parser.add_argument("--tokens", type=_at_least(8), default=128, help="an answer (default: 128)")
    parser.add_argument("--prompt-tokens", type=_at_least(2), default=64)
    parser.add_argument("--rows", type=_rows, nargs="+", default=list(ROWS), help="default: 1 2 4 8 16 32 64")
    parser.add_argument(
        "--long-prompt", type=_at_least(0), default=16_384, help="0 leaves it out (default: 16384)"
    )
    parser.add_argument(
        "--mlx-lm-chunk",
        type=_at_least(1),
        default=2048,
        help="its prefill_step_size (default: 2048, its own)",
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases whose names begin so")
    parser.add_argument("--quick", action="store_true", help="2 rounds, 32 tokens, 8 rows, a prompt of 1024")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: bench/results/engine-….json")
    parser.add_argument("--plot", action="store_true", help="draw PNGs beside the results; wants matplotlib")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="show these results; measure nothing"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, or read what was measured; print the table, draw if asked."""
    # As our worker does: MLX reads it as soon as it is imported. Here both sides have it.
    prepare_environment()
    from bench.engine.report import render

    if arguments.plot and find_spec("matplotlib") is None:
        sys.exit("--plot needs matplotlib; without it, draw later and elsewhere with --from FILE --plot")
    if arguments.source is None:
        path = machine.results_path("engine", arguments.output)
        results = measure(arguments, path)
    else:
        path = arguments.source
        results = load(path)
    print(machine.summary(results))
    settings = results["settings"]
    print(
        f"{settings['shape']}, {settings['dtype']}, on {results['device']}, medians of {results['num_rounds']} rounds\n"
    )
    for line in render(results["summary"]):
        print(line)
    print(f"\nall rounds: {path}")
    if arguments.plot:
        from bench.engine.plots import draw

        for picture in draw(results, path):
            print(f"drawn: {picture}")


def load(path: Path) -> dict[str, Any]:
    """A results file of this benchmark."""
    try:
        results = machine.load(path)
    except (OSError, ValueError) as exc:
        sys.exit(f"cannot read {path}: {exc}")
    if results.get("bench") != "engine" or "num_rounds" not in results:
        sys.exit(f"{path} has no results that this version of python -m bench engine wrote")
    return results


def measure(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Run all cases round by round; the file is written after each round, the results are its contents."""
    import mlx.core as mx

    from bench.engine import models
    from bench.engine.plan import Plan
    from bench.engine.warmup import warm_up_samplers

    if arguments.quick:
        arguments.rounds, arguments.tokens, arguments.rows = 2, 32, [8]
        arguments.long_prompt = min(arguments.long_prompt, 1024)
    about = {"bench": "engine", **machine.describe(), "device": models.device()}
    settings = {key: value for key, value in vars(arguments).items() if key in _SETTINGS}
    cases = choose(Plan(arguments).cases(), arguments.only)
    started = perf_counter()
    most = max((case.num_rows or 0 for case in cases if case.kind == "own sampling"), default=0)
    vocabulary = SHAPES[arguments.shape]["vocab_size"]
    warm_up_s = warm_up_samplers(most, dtype=arguments.dtype, vocabulary=vocabulary) if most else 0.0
    found: dict[str, dict[str, list[Found]]] = {case.name: {} for case in cases}
    results: dict[str, Any] = {}
    # The round before the first warms up and does not count.
    for number in range(arguments.rounds + 1):
        if number > 1 and arguments.seconds and perf_counter() - started > arguments.seconds:
            break
        for case in cases:
            for side in case.sides if number % 2 else reversed(case.sides):
                mx.synchronize()
                mx.clear_cache()
                result = case.sides[side](number)
                _tell(f"{number} of {arguments.rounds}" if number else "to warm up", case, side, result)
                if number:
                    found[case.name].setdefault(side, []).append(result)
        if number:
            results = {
                **about,
                "settings": settings,
                "num_rounds": number,
                "seconds": {"samplers": round(warm_up_s, 1), "all": round(perf_counter() - started, 1)},
                **_results(cases, found),
            }
            machine.save(results, path)
    gc.unfreeze()
    return results


_SETTINGS = ("shape", "dtype", "tokens", "prompt_tokens", "rows", "long_prompt", "mlx_lm_chunk")


def choose(cases: Iterator[Case], only: list[str] | None) -> list[Case]:
    """The cases whose names begin as asked."""
    names, chosen = [], []
    for case in cases:
        names.append(case.name)
        if not only or case.name.startswith(tuple(only)):
            chosen.append(case)
    if not chosen:
        sys.exit(f"--only: no case begins so; there are {', '.join(names)}")
    return chosen


def _results(cases: list[Case], found: dict[str, dict[str, list[Found]]]) -> dict[str, Any]:
    from bench.engine.report import summarise, usual_times

    return {
        "summary": summarise(found, {case.name: (case.kind, case.num_rows) for case in cases}),
        "gaps": {
            side: usual_times(rounds, "first_long") for side, rounds in found.get("long prompt", {}).items()
        },
        "rounds": {
            case: {side: [asdict(each) for each in rounds] for side, rounds in sides.items()}
            for case, sides in found.items()
        },
    }


def _tell(which: str, case: Case, side: str, result: Found) -> None:
    shown = ", ".join(f"{quantity} {show(value)}" for quantity, value in result.numbers.items())
    print(f"round {which}, {case.name}, {side}: {shown}", file=sys.stderr, flush=True)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


def _rows(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_ROWS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_ROWS}, not {value}")
    return value
