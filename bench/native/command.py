"""``python -m bench native``."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.native import bridge
from bench.native.folder import make
from bench.native.prompts import Prompts, chat_prompts, random_prompts
from bench.native.sample import Sample
from bench.shapes import SHAPES
from bench.stats import align, median, median_ratio, show
from mlxbridge import Client
from mlxbridge.host.models.store import DEMO, classify

TITLES = {
    "bridge": "through mlxbridge",
    "inprocess": "mlx_lm stream_generate",
    "bare": "mlx_lm generate_step, no text",
}
KEYS = ("tokens_per_s", "ttft_ms")

Ask = Callable[[dict[str, Any]], list[Sample]]
"""Has mlx_lm answer a job."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="demo|FOLDER", help="default: demo")
    model.add_argument("--shape", choices=SHAPES, help="a model of this shape with random weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=3, help="answers a round and side (default: 3)")
    parser.add_argument("--tokens", type=int, default=128, help="most tokens an answer (default: 128)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="with --shape (default: 64)")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="mlx_lm in a process of its own (default: in the worker's)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/native-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    about = machine.describe()
    with _model(arguments) as (name, folder, prompts):
        runs = run_all(folder, prompts, arguments.rounds, arguments.tokens, is_apart=arguments.apart)
    summary = summarise(runs)
    print(machine.summary(about))
    place = "a process of its own" if arguments.apart else "the worker's process"
    print(f"{name}, medians of {arguments.rounds} rounds of {arguments.answers} answers, mlx_lm in {place}\n")
    for line in render(summary):
        print(line)
    path = machine.results_path("native", arguments.output)
    machine.save(
        {
            "bench": "native",
            **about,
            "model": name,
            "apart": arguments.apart,
            "summary": summary,
            "rounds": [asdict(run) for run in runs],
        },
        path,
    )
    print(f"all rounds: {path}")


@contextmanager
def _model(arguments: argparse.Namespace) -> Iterator[tuple[str, Path, Prompts]]:
    count = arguments.answers + 1
    if arguments.shape is None:
        source = classify(arguments.model or DEMO)
        if source.folder is None:
            sys.exit("--model must be demo or a folder")
        yield source.name, source.folder, chat_prompts(source.folder, count)
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / arguments.shape
        make(arguments.shape, folder)
        vocabulary = SHAPES[arguments.shape]["vocab_size"]
        name = f"{arguments.shape} with random weights, bfloat16"
        yield name, folder, random_prompts(vocabulary, arguments.prompt_tokens, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One side's answers in one round."""

    round: int
    side: str
    samples: list[Sample]


def run_all(folder: Path, prompts: Prompts, num_rounds: int, max_tokens: int, *, is_apart: bool) -> list[Run]:
    """In turn, never two at once: they would fight for the cores. All keep the model loaded meanwhile."""
    job = {"warm_up": prompts[:1], "prompts": prompts[1:], "max_tokens": max_tokens}
    runs = []
    with _open_sides(folder, is_apart=is_apart) as (client, ask):
        for number in range(num_rounds):
            for side in TITLES if number % 2 == 0 else reversed(TITLES):
                print(f"round {number + 1} of {num_rounds}: {TITLES[side]}", file=sys.stderr, flush=True)
                asked = {**job, "is_bare": side == "bare"}
                samples = bridge.measure(client, asked) if side == "bridge" else ask(asked)
                runs.append(Run(round=number, side=side, samples=samples))
    return runs


@contextmanager
def _open_sides(folder: Path, *, is_apart: bool) -> Iterator[tuple[Client, Ask]]:
    """A host's client, and what has mlx_lm answer."""
    with (
        tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as run,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(run) / "jobs"
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(bridge.LOAD_S)
        with ExitStack() as sides:
            if is_apart:
                command = [sys.executable, "-m", "bench.native.inprocess", str(folder), str(path)]
                sides.enter_context(subprocess.Popen(command))
            client = sides.enter_context(bridge.open_host(str(folder), None if is_apart else path))
            accepted, _ = listener.accept()
            jobs = sides.enter_context(accepted.makefile("rw"))
            accepted.close()

            def ask(job: dict[str, Any]) -> list[Sample]:
                print(json.dumps(job), file=jobs, flush=True)
                samples: list[Sample] = json.loads(jobs.readline() or sys.exit("mlx_lm's process has ended"))
                return samples

            yield client, ask


def summarise(runs: list[Run]) -> dict[str, Any]:
    """Medians of each side, the medians of the rounds' ratios, and whether the answers were the same."""
    sides: dict[str, dict[str, list[float | None]]] = {side: {} for side in TITLES}
    for run in sorted(runs, key=lambda run: run.round):
        for key in KEYS:
            sides[run.side].setdefault(key, []).append(median(sample[key] for sample in run.samples))
    found: dict[str, Any] = {
        side: {key: median(value for value in values if value is not None) for key, values in keys.items()}
        for side, keys in sides.items()
    }
    found["ratios"] = {
        side: {key: median_ratio(sides["bridge"][key], sides[side][key]) for key in KEYS}
        for side in TITLES
        if side != "bridge"
    }
    answers = {
        side: [sample["token_ids"] for run in runs if run.side == side for sample in run.samples]
        for side in TITLES
    }
    found["tokens"] = sum(map(len, answers["bridge"]))
    found["same_answers"] = all(answers[side] == answers["bridge"] for side in TITLES)
    return found


def render(summary: dict[str, Any]) -> Iterator[str]:
    """The table, line by line."""
    rows = [["", "tokens/s", "first token ms"]]
    for side, title in TITLES.items():
        rows.append([title, *(show(summary[side][key]) for key in KEYS)])
    for side, ratios in summary["ratios"].items():
        rows.append([f"ratio to {TITLES[side]}", *(show(ratios[key]) for key in KEYS)])
    yield from align(rows)
    same = "the same" if summary["same_answers"] else "DIFFERENT"
    yield f"the answers of all sides are {same} ({summary['tokens']} tokens each)"
    yield ""
