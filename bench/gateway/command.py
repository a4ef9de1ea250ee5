"""``python -m bench gateway``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
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

NEEDS = {
    "gateway": ("httptools", "orjson", "prometheus_client", "starlette", "uvicorn", "uvloop"),
    "uvicorn": ("uvicorn",),
    "aiohttp": ("aiohttp",),
}
"""Packages of the cases of the free model; of the first one, of the serving as well."""

FULL: Mapping[str, Any] = {
    "rounds": 3,
    "clients": [1, 8, 32],
    "requests": 2,
    "tokens": 128,
    "streams": [1, 64],
    "seconds": 3.0,
}
QUICK: Mapping[str, Any] = {
    "rounds": 1,
    "clients": [2],
    "requests": 1,
    "tokens": 8,
    "streams": [2],
    "seconds": 0.2,
}
"""For what is not said."""

Runs = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="demo|FOLDER", help="default: demo")
    model.add_argument("--shape", choices=SHAPES, help="a model of this shape with random weights")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--clients", type=int, nargs="*", help="default: 1 8 32; none: no serving")
    parser.add_argument("--requests", type=int, help="of each client, one after the other (default: 2)")
    parser.add_argument(
        "--tokens", type=int, help="an answer, from half to one and a half times as many (default: 128)"
    )
    parser.add_argument("--prompt-chars", type=int, default=256, help="default: 256")
    parser.add_argument("--streams", type=int, nargs="*", help="of the free model (default: 1 64)")
    parser.add_argument("--seconds", type=float, help="for each run of the free model (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that it works, measures nothing"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/gateway-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print both tables, write the file; it has what was measured, should something fail on the way."""
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    _check_needs(ceiling.CASES if arguments.streams else ("gateway",))
    about = machine.describe()
    results: dict[str, Any] = {"bench": "gateway", **about}
    print(machine.summary(about))
    path = machine.results_path("gateway", arguments.output)
    try:
        with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
            if arguments.clients:
                runs: Runs = results.setdefault("serving", [])
                runs.extend(run_serving(arguments, Path(folder)))
                print()
                for line in render(runs, "clients", SIDES, SERVING_KEYS, "gateway"):
                    print(line)
            if arguments.streams:
                runs = results.setdefault("ceiling", [])
                runs.extend(run_ceiling(arguments))
                cases = {case: f"bare {case}" for case in ceiling.CASES} | {"gateway": "mlxbridge gateway"}
                print()
                for line in render(runs, "streams", cases, CEILING_KEYS, "gateway"):
                    print(line)
    finally:
        machine.save(results, path)
        print(f"\nall rounds: {path}")


def _check_needs(cases: Iterable[str]) -> None:
    for case in cases:
        if names := [name for name in NEEDS[case] if find_spec(name) is None]:
            sys.exit(
                f"{case} needs {', '.join(names)}: pip install -e '.[host,bench]', or measure the serving alone "
                "with --streams and no number"
            )


def run_serving(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """In turn, never two at once: they would fight for the device. Both keep the model loaded meanwhile."""
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
                    yield {"round": number, "side": side, "clients": num_clients, **result}


def run_ceiling(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every run starts its servers anew."""
    for num_streams in arguments.streams:
        for number in range(arguments.rounds):
            for case in ceiling.CASES if number % 2 == 0 else reversed(ceiling.CASES):
                with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as place:
                    result = ceiling.measure(case, num_streams, arguments.seconds, Path(place))
                _tell(f"{num_streams} free streams, round {number + 1}, {case}", result)
                yield {"round": number, "side": case, "streams": num_streams, **result}


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
