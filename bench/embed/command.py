"""``python -m bench embed``."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from bench import machine
from bench.embed.folder import SHAPES, make, short_texts
from bench.native.bridge import open_host
from bench.stats import align, median, median_ratio, show
from bench.wire import table
from bench.wire.meter import cpu_seconds
from bench.wire.plan import CASES, FULL, QUICK
from bench.wire.rounds import missing
from bench.wire.rounds import run_all as run_wire
from mlxbridge import Client

TITLES = {"bridge": "through mlxbridge, one call", "inprocess": "the same model in-process"}
TRANSPORT = [case for case in CASES if "vectors" in CASES[case].tests]
_WARM_UP_TEXTS = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path, metavar="FOLDER", help="of a real embedding model")
    model.add_argument(
        "--shape",
        choices=SHAPES,
        default="tiny",
        help="an encoder of this shape with random weights (default: tiny)",
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of --shape"
    )
    parser.add_argument("--texts", type=int, default=10_000, help="so many (default: 10000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="shows that it works, measures nothing")
    parser.add_argument("--cases", default=",".join(TRANSPORT), help="of the way alone")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/embed-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, write the file."""
    cases = arguments.cases.split(",") if arguments.cases else []
    for case in cases:
        if case not in TRANSPORT:
            sys.exit(f"--cases: {case!r} is none of {', '.join(TRANSPORT)}")
    for case, names in missing(cases).items():
        sys.exit(
            f"{case} needs {', '.join(names)}: pip install -e '.[host,bench]', or choose others with --cases"
        )
    rounds, count = (1, 200) if arguments.quick else (arguments.rounds, arguments.texts)
    about = machine.describe()
    texts = short_texts(count)
    with _folder(arguments, texts) as (name, folder):
        runs, batch_tokens = run_all(folder, texts, rounds)
    summary = summarise(runs, len(texts))
    transport = run_wire(cases, ["vectors"], rounds, QUICK if arguments.quick else FULL, _tell)
    transport_summary = table.summarise(transport)
    print(machine.summary(about))
    print(f"{name}, {count} texts, batches of {batch_tokens} tokens in-process, medians of {rounds} rounds\n")
    for line in [*render(summary), *table.render(transport_summary)]:
        print(line)
    path = machine.results_path("embed", arguments.output)
    machine.save(
        {
            "bench": "embed",
            **about,
            "model": name,
            "texts": count,
            "inprocess_batch_tokens": batch_tokens,
            "summary": {"model": summary, **transport_summary},
            "rounds": [*map(asdict, runs), *map(asdict, transport)],
        },
        path,
    )
    print(f"all rounds: {path}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _folder(arguments: argparse.Namespace, texts: list[str]) -> Iterator[tuple[str, Path]]:
    if arguments.model is not None:
        yield arguments.model.name, arguments.model
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / arguments.shape
        make(arguments.shape, folder, texts, dtype=arguments.dtype)
        yield f"{arguments.shape} with random weights, {arguments.dtype}", folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All texts on one side in one round.

    ``cpu_seconds`` are those of all processes that had a part, NaN where the system does not tell;
    ``largest_difference`` is that of any number from the in-process side's.
    """

    round: int
    side: str
    seconds: float
    cpu_seconds: float = math.nan
    largest_difference: float = 0.0


def run_all(folder: Path, texts: list[str], num_rounds: int) -> tuple[list[Run], int]:
    """In turn, never two at once. Both processes keep the model loaded meanwhile."""
    runs = []
    with open_host(str(folder)) as client, _open_inprocess(folder, texts) as (ask, batch_tokens):
        client.embed(texts[:_WARM_UP_TEXTS])
        for number in range(num_rounds):
            found = {}
            for side in TITLES if number % 2 == 0 else reversed(TITLES):
                _tell(f"round {number + 1} of {num_rounds}: {TITLES[side]}")
                found[side] = embed(client, texts) if side == "bridge" else ask()
            difference = float(np.abs(found["bridge"].vectors - found["inprocess"].vectors).max())
            runs += [
                Run(
                    round=number,
                    side=side,
                    seconds=timed.seconds,
                    cpu_seconds=timed.cpu_seconds,
                    largest_difference=difference if side == "bridge" else 0.0,
                )
                for side, timed in found.items()
            ]
    return runs, batch_tokens


class Timed(NamedTuple):
    """What came of all texts on one side."""

    seconds: float
    cpu_seconds: float
    vectors: Any


def embed(client: Client, texts: list[str]) -> Timed:
    """All of them, as one call."""
    (model,) = client.status().models
    worker = int(model.details["pid"])
    before = cpu_seconds() + _cpu_of(worker) + _cpu_of(_parent_of(worker))
    start = perf_counter()
    found = client.embed(texts)
    seconds = perf_counter() - start
    after = cpu_seconds() + _cpu_of(worker) + _cpu_of(_parent_of(worker))
    return Timed(seconds, after - before, found.numpy())


def _stat(pid: int) -> list[str]:
    """What Linux tells of a process, behind its name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_of(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else math.nan


def _parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else -1


@contextmanager
def _open_inprocess(folder: Path, texts: list[str]) -> Iterator[tuple[Callable[[], Timed], int]]:
    """A process that has the model loaded, and waits; and how large its batches are."""
    with tempfile.TemporaryDirectory() as parent:
        file, vectors = Path(parent) / "texts.json", Path(parent) / "vectors.npy"
        file.write_text(json.dumps(texts))
        command = [sys.executable, "-m", "bench.embed.inprocess", str(folder), str(file)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            tell, hear = process.stdin, process.stdout

            def ask() -> Timed:
                tell.write(f"{vectors}\n")
                tell.flush()
                seconds, cpu = json.loads(hear.readline() or sys.exit("the model's process has ended"))
                return Timed(seconds, cpu, np.load(vectors))

            try:
                yield ask, int(hear.readline() or sys.exit("the model's process has ended"))
            finally:
                tell.close()


def summarise(runs: list[Run], num_texts: int) -> dict[str, Any]:
    """Medians of each side, the medians of the rounds' ratios, and how far the vectors are apart at most."""
    sides = {side: [run for run in runs if run.side == side] for side in TITLES}
    rates: dict[str, list[float | None]] = {
        side: [num_texts / run.seconds for run in own] for side, own in sides.items()
    }
    cpu: dict[str, list[float | None]] = {
        side: [run.cpu_seconds for run in own] for side, own in sides.items()
    }
    return {
        **{
            side: {
                "texts_per_s": median(filter(None, rates[side])),
                "cpu_us": median(filter(None, cpu[side])) / num_texts * 1e6,
            }
            for side in TITLES
        },
        "ratio": median_ratio(rates["bridge"], rates["inprocess"]),
        "cpu_ratio": median_ratio(cpu["bridge"], cpu["inprocess"]),
        "largest_difference": max(run.largest_difference for run in runs),
    }


def render(summary: dict[str, Any]) -> Iterator[str]:
    """The table, line by line."""
    rows = [["", "texts/s", "CPU µs/text"]]
    rows += [
        [title, show(summary[side]["texts_per_s"]), show(summary[side]["cpu_us"])]
        for side, title in TITLES.items()
    ]
    rows.append(["ratio of the pairs", show(summary["ratio"]), show(summary["cpu_ratio"])])
    yield from align(rows)
    yield f"the vectors of both sides differ by {summary['largest_difference']:.1e} at most"
    yield ""
