"""``python -m bench gateway``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine
from bench.gateway import ceiling, serving
from bench.gateway.processes import run_gateway, run_host, run_mlx_lm
from bench.native.folder import make
from bench.shapes import SHAPES
from bench.stats import align, median, median_ratio, show
from mlxbridge.host.models.store import DEMO, classify

SIDES = {"gateway": "mlxbridge gateway", "mlx_lm": "mlx_lm.server"}
SERVING_KEYS = {
    "tokens_per_s": "tokens/s",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p99_ms": "p99",
    "gap_p99_ms": "gap p99 ms",
}
CEILING_KEYS = {"tokens_per_s": "tokens/s", "cpu_us": "CPU us a token"}

Runs = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="demo|FOLDER", help="default: demo")
    model.add_argument("--shape", choices=SHAPES, help="a model of this shape with random weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--clients", type=int, nargs="*", default=[1, 8, 32], help="default: 1 8 32; none: no serving"
    )
    parser.add_argument(
        "--requests", type=int, default=2, help="of each client, one after the other (default: 2)"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=128,
        help="an answer, from half to one and a half times as many (default: 128)",
    )
    parser.add_argument("--prompt-chars", type=int, default=256, help="default: 256")
    parser.add_argument(
        "--streams", type=int, nargs="*", default=[1, 64], help="of the free model (default: 1 64)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="for each run of the free model (default: 3)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/gateway-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print both tables, write the file."""
    about = machine.describe()
    results: dict[str, Any] = {"bench": "gateway", **about}
    print(machine.summary(about))
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        if arguments.clients:
            results["serving"] = run_serving(arguments, Path(folder))
            print()
            for line in render(results["serving"], "clients", SIDES, SERVING_KEYS, "gateway"):
                print(line)
        if arguments.streams:
            results["ceiling"] = run_ceiling(arguments, Path(folder))
            cases = {case: f"bare {case}" for case in ceiling.CASES} | {"gateway": "mlxbridge gateway"}
            print()
            for line in render(results["ceiling"], "streams", cases, CEILING_KEYS, "gateway"):
                print(line)
    path = machine.results_path("gateway", arguments.output)
    machine.save(results, path)
    print(f"\nall rounds: {path}")


def run_serving(arguments: argparse.Namespace, folder: Path) -> Runs:
    """In turn, never two at once: they would fight for the device. Both keep the model loaded meanwhile."""
    runs: Runs = []
    with ExitStack() as stack:
        model = _model(arguments, folder)
        gateway, _ = stack.enter_context(run_gateway(stack.enter_context(run_host(model, folder)), folder))
        servers = {"gateway": gateway, "mlx_lm": stack.enter_context(run_mlx_lm(model, folder))}
        given = arguments.requests, arguments.tokens, arguments.prompt_chars
        for num_clients in arguments.clients:
            for side in SIDES:  # shapes that are new are compiled, and caches grow
                serving.measure(servers[side], num_clients, 1, *given[1:])
            for number in range(arguments.rounds):
                for side in SIDES if number % 2 == 0 else reversed(SIDES):
                    result = serving.measure(servers[side], num_clients, *given)
                    _tell(f"{num_clients} clients, round {number + 1}, {SIDES[side]}", result)
                    runs.append({"round": number, "side": side, "clients": num_clients, **result})
    return runs


def run_ceiling(arguments: argparse.Namespace, folder: Path) -> Runs:
    """Every run starts its servers anew."""
    runs: Runs = []
    for num_streams in arguments.streams:
        for number in range(arguments.rounds):
            for case in ceiling.CASES if number % 2 == 0 else reversed(ceiling.CASES):
                with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as place:
                    result = ceiling.measure(case, num_streams, arguments.seconds, Path(place))
                _tell(f"{num_streams} free streams, round {number + 1}, {case}", result)
                runs.append({"round": number, "side": case, "streams": num_streams, **result})
    return runs


def _tell(what: str, result: dict[str, float]) -> None:
    told = ", ".join(f"{key} {show(value)}" for key, value in result.items() if key != "tokens")
    print(f"{what}: {told}", file=sys.stderr, flush=True)


def render(runs: Runs, count: str, sides: dict[str, str], keys: dict[str, str], own: str) -> Iterator[str]:
    """A table: medians of each side, and of the rounds' ratios of ours to each other's."""
    rows = [["", count, *keys.values()]]
    for number in dict.fromkeys(run[count] for run in runs):
        columns = {
            side: {
                key: [run[key] for run in runs if run[count] == number and run["side"] == side]
                for key in keys
            }
            for side in sides
        }
        for side, title in sides.items():
            rows.append([title, str(number), *(show(median(columns[side][key])) for key in keys)])
        for side, title in sides.items():
            if side != own:
                ratios = [show(_ratio(runs, count, number, key, own, side)) for key in keys]
                rows.append([f"  ratio to {title}", str(number), *ratios])
    yield from align(rows)


def _ratio(runs: Runs, count: str, number: int, key: str, own: str, other: str) -> float:
    def of(side: str) -> list[float]:
        found = [run for run in runs if run[count] == number and run["side"] == side]
        return [run[key] for run in sorted(found, key=lambda run: int(run["round"]))]

    return median_ratio(of(own), of(other))


def _model(arguments: argparse.Namespace, folder: Path) -> Path:
    if arguments.shape is not None:
        shape: str = arguments.shape
        make(shape, folder / shape)
        return folder / shape
    source = classify(arguments.model or DEMO)
    if source.folder is None:
        sys.exit("--model must be demo or a folder")
    return Path(source.folder)
