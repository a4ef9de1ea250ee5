"""``python -m bench engine``: our engine beside mlx_lm, in one process, in turn, round after round."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine
from bench.stats import align, median, median_ratio, show

Measure = Callable[[], dict[str, float]]
ROWS = (8, 32, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="tiny", choices=["tiny", "smollm-135m", "llama-3.2-1b"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="an answer (default: 128)")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="default: 8 32 64")
    parser.add_argument("--long-prompt", type=int, default=16_384, help="0 leaves it out (default: 16384)")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases whose names begin so")
    parser.add_argument("--quick", action="store_true", help="2 rounds, 32 tokens, 8 rows, a prompt of 1024")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: bench/results/engine-….json")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    if arguments.quick:
        arguments.rounds, arguments.tokens, arguments.rows = 2, 32, [8]
        arguments.long_prompt = min(arguments.long_prompt, 1024)
    about = machine.describe()
    rounds = measure(arguments)
    summary = summarise(rounds)
    print(machine.summary(about))
    print(f"{arguments.shape}, {arguments.dtype}, medians of {arguments.rounds} rounds\n")
    for line in render(summary):
        print(line)
    path = machine.results_path("engine", arguments.output)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("output", "run")}
    machine.save(
        {"bench": "engine", **about, "settings": settings, "summary": summary, "rounds": rounds}, path
    )
    print(f"\nall rounds: {path}")


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By case and side: what each round found. A round before the first warms up and does not count."""
    cases = _cases(arguments)
    chosen = {
        name: sides
        for name, sides in cases.items()
        if not arguments.only or name.startswith(tuple(arguments.only))
    }
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in chosen}
    for name, sides in chosen.items():
        for number in range(arguments.rounds + 1):
            for side in sides if number % 2 else reversed(sides):
                result = sides[side]()
                shown = ", ".join(f"{quantity} {show(value)}" for quantity, value in result.items())
                which = f"round {number} of {arguments.rounds}" if number else "warm-up"
                print(f"{name}, {which}, {side}: {shown}", file=sys.stderr, flush=True)
                if number:
                    found[name].setdefault(side, []).append(result)
    return found


def _cases(arguments: argparse.Namespace) -> dict[str, dict[str, Measure]]:
    from bench.engine import cases, models
    from bench.engine.sides import MlxLm, Ours, alone_tokens_per_second, tokens_per_second
    from mlxbridge.host.engine.batch import BatchEngine

    loaded = models.make(arguments.shape, arguments.dtype)
    engine = BatchEngine(loaded)
    common: dict[str, Any] = {"vocabulary": loaded.vocabulary_size, "prompt_tokens": arguments.prompt_tokens}
    (alone,) = cases.asks(1, max_tokens=4 * arguments.tokens, **common)

    def rate(number: float) -> dict[str, float]:
        return {"tokens/s": number}

    found: dict[str, dict[str, Measure]] = {
        "alone": {
            "ours": lambda: rate(tokens_per_second(Ours(loaded, engine), [alone])),
            "mlx_lm": lambda: rate(alone_tokens_per_second(loaded, alone)),
        }
    }
    for num_rows in arguments.rows:
        for kind, options in (
            ("own sampling", {"has_own_sampling": True, "is_uneven": True}),
            ("greedy", {"is_uneven": True}),
            ("greedy, one length", {}),
        ):
            asked = cases.asks(num_rows, max_tokens=arguments.tokens, **{**common, **options})
            found[f"{num_rows} {kind}"] = {
                "ours": lambda asked=asked: rate(tokens_per_second(Ours(loaded, engine), asked)),  # type: ignore[misc]
                "mlx_lm": lambda asked=asked: rate(tokens_per_second(MlxLm(loaded), asked)),  # type: ignore[misc]
            }
    most = max(arguments.rows)
    (newcomer,) = cases.asks(1, max_tokens=1, **common)
    found[f"{most} coming and going"] = {
        "ours": lambda: cases.churn(Ours(loaded, engine), most, newcomer, arguments.tokens),
        "mlx_lm": lambda: cases.churn(MlxLm(loaded), most, newcomer, arguments.tokens),
    }
    if arguments.long_prompt:
        found["long prompt"] = _long_prompt(arguments, loaded, engine, common)
    return found


def _long_prompt(
    arguments: argparse.Namespace, loaded: Any, engine: Any, common: dict[str, Any]
) -> dict[str, Measure]:
    from bench.engine import cases
    from bench.engine.sides import MlxLm, Ours

    running = cases.asks(8, max_tokens=4096, **common)
    (long,) = cases.asks(1, max_tokens=2, **{**common, "prompt_tokens": arguments.long_prompt})
    (short,) = cases.asks(1, max_tokens=2, **common)
    return {
        "ours": lambda: cases.long_prompt_beside(Ours(loaded, engine), running, long, short),
        "mlx_lm": lambda: cases.long_prompt_beside(MlxLm(loaded), running, long, short),
    }


def summarise(rounds: dict[str, dict[str, list[dict[str, float]]]]) -> list[dict[str, Any]]:
    """One line a case and quantity: both sides' medians, and the median of the rounds' ratios."""
    lines = []
    for name, sides in rounds.items():
        for quantity in sides["ours"][0]:
            ours = [result[quantity] for result in sides["ours"]]
            theirs = [result[quantity] for result in sides["mlx_lm"]]
            lines.append(
                {
                    "case": name,
                    "quantity": quantity,
                    "ours": median(ours),
                    "mlx_lm": median(theirs),
                    "ratio": median_ratio(ours, theirs),
                }
            )
    return lines


def render(summary: list[dict[str, Any]]) -> list[str]:
    """The table, line by line."""
    rows = [["", "", "ours", "mlx_lm", "ratio"]]
    for line in summary:
        quantity = line["quantity"] if line["quantity"] == "tokens/s" else f"{line['quantity']} ms"
        rows.append([line["case"], quantity, *(show(line[key]) for key in ("ours", "mlx_lm", "ratio"))])
    return align(rows)
