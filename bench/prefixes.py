"""``python -m bench prefixes``: when a long prompt's first token comes, by where its beginning is found.

An engine reads a prompt and stores it; one that is made anew on the same folder finds it on disk, and then in memory.
The files have just been written and are in the page cache: what is measured is all but the disk's own speed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from statistics import median
from time import perf_counter

from bench.shapes import SHAPES
from mlxbridge.host.engine.environment import prepare_environment

_VOCABULARY = 500  # every shape has so many words, and more
_DISK_BYTES = 64 << 30
_MEMORY_BYTES = 4 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", choices=SHAPES, default="smollm-135m", help="of the model")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=4096, help="of the prompt, beside its last")
    parser.add_argument("--rounds", type=int, default=5, help="each with a new prompt; medians are shown")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table."""
    prepare_environment()
    from bench.engine.models import device, make
    from mlxbridge.host.engine.batch import BatchEngine
    from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest

    loaded = make(arguments.shape, arguments.dtype)
    chance = random.Random(1)
    milliseconds: dict[str, list[float]] = {"not at all": [], "on disk": [], "in memory": []}
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        limits = EngineLimits(
            prefix_cache_bytes=_MEMORY_BYTES, prefix_disk_bytes=_DISK_BYTES, prefix_disk_folder=folder
        )

        def start() -> BatchEngine:
            engine = BatchEngine(loaded, limits)
            engine.open_disk()
            answer(engine, [1] * 20)  # what is slow the first time is not what is asked
            return engine

        def answer(engine: BatchEngine, prompt: list[int]) -> float:
            """Milliseconds to the first token; returns when all is written."""
            began, first = perf_counter(), None
            engine.submit(0, GenerateRequest(prompt=prompt, max_tokens=2))
            while engine.has_work:
                rows = engine.step()
                if first is None and any(row.token_ids for row in rows):
                    first = perf_counter()
            assert first is not None
            return 1000 * (first - began)

        for _ in range(arguments.rounds):
            prompt = [chance.randrange(_VOCABULARY) for _ in range(arguments.tokens + 1)]
            engine = start()
            milliseconds["not at all"].append(answer(engine, prompt))
            engine.close()
            engine = start()
            milliseconds["on disk"].append(answer(engine, prompt))
            milliseconds["in memory"].append(answer(engine, prompt))
            engine.close()
        num_bytes = engine.stats()["prefix_disk_bytes"] // arguments.rounds
    print(
        f"{arguments.shape}, {arguments.dtype}, {device()}; a prompt of {arguments.tokens} tokens, "
        f"{num_bytes / 2**20:.0f} MiB on disk; median of {arguments.rounds}"
    )
    print("its beginning is found    first token after, ms    (least to most)")
    for where, times in milliseconds.items():
        print(f"{where:<24}{median(times):>24,.1f}    ({min(times):,.1f} to {max(times):,.1f})")
