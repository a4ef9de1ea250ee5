"""``python -m bench soak``: it measures nothing, and ends with status 1 if any answer depends on what else runs."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from dataclasses import dataclass, field, fields, replace
from time import perf_counter

from bench.stats import align
from mlxbridge.errors import DeadlineExceeded, InternalError
from mlxbridge.host.engine.interface import EngineLimits

KINDS = ("llama", "gemma3_text", "mamba", "lfm2", "llama-8-bits", "llama-window")
# Those whose caches can take back what was drafted wrong.
DRAFTABLE = ("llama", "llama-8-bits")
# Memory is looked at after each, when nothing is running.
NUM_WAVES = 8
# From this wave on, memory in use must not grow.
FIRST_FLAT_WAVE = 2
MAX_GROWTH_BYTES = 64 << 10
MAX_SHOWN = 40
# So few that answers outgrow the memory, and some have to wait and be read again.
EXPECTED_TOKENS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, default="llama", help="of model (default: llama)")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--prefill-chunk", type=int, default=64)
    parser.add_argument(
        "--kv-rows",
        type=int,
        default=17,
        help="memory for so many short rows: so few that calls must wait again",
    )
    parser.add_argument("--prefix-cache-bytes", type=int, default=1 << 20)
    parser.add_argument(
        "--drafts",
        action="store_true",
        help=f"draft for most requests, at whim; {' and '.join(DRAFTABLE)} only",
    )
    parser.add_argument("--prefix-disk-bytes", type=int, default=1 << 22, help="0: none are kept on disk")


def run(arguments: argparse.Namespace) -> None:
    """Run all requests, print the table."""
    if arguments.requests < NUM_WAVES:
        sys.exit(f"--requests must be at least {NUM_WAVES}")
    if arguments.drafts and arguments.kind not in DRAFTABLE:
        sys.exit(f"--drafts: nothing can be drafted for {arguments.kind}")
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        limits = EngineLimits(
            max_batch=arguments.max_batch,
            prefill_chunk=arguments.prefill_chunk,
            prefix_cache_bytes=arguments.prefix_cache_bytes,
            prefix_disk_bytes=arguments.prefix_disk_bytes,
            prefix_disk_folder=folder,
        )
        report = soak(
            arguments.kind,
            limits,
            kv_rows=arguments.kv_rows,
            num_requests=arguments.requests,
            seed=arguments.seed,
            has_drafts=arguments.drafts,
        )
    for line in report.render():
        print(line)
    print(f"{perf_counter() - started:.0f} seconds")
    print("passed" if report.is_good else "FAILED")
    sys.exit(0 if report.is_good else 1)


@dataclass(slots=True)
class Report:
    """What a soak came to; memory is bytes in use after each wave, without what the cache of prefixes counts."""

    requests: int = 0
    tokens: int = 0
    cancelled: int = 0
    late: int = 0
    failed: int = 0
    stopped: int = 0
    checked_by_mlx_lm: int = 0
    differences: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)

    @property
    def growth(self) -> int:
        """Bytes in use at the end beyond those after the first waves."""
        return self.memory[-1] - self.memory[FIRST_FLAT_WAVE - 1]

    @property
    def is_good(self) -> bool:
        """Whether no answer differs, nothing is left running, memory is flat and no file was damaged."""
        is_idle = not self.stats["running"] and not self.stats["waiting"]
        is_whole = not self.stats["prefix_disk_dropped_total"]
        return not self.differences and is_idle and is_whole and self.growth <= MAX_GROWTH_BYTES

    def render(self) -> list[str]:
        """The table, line by line, and the first differences."""
        rows = [
            [each.name.replace("_", " "), f"{getattr(self, each.name):,}"]
            for each in fields(self)
            if isinstance(getattr(self, each.name), int)
        ]
        rows += [
            [f"memory after wave {number}", f"{value:,} bytes"] for number, value in enumerate(self.memory, 1)
        ]
        rows += [["growth", f"{self.growth:,} bytes"], ["differences", f"{len(self.differences):,}"]]
        rows += [[f"engine: {name}", f"{value:,}"] for name, value in self.stats.items()]
        return [*align(rows), *self.differences[:MAX_SHOWN]]


def soak(
    kind: str,
    limits: EngineLimits,
    *,
    kv_rows: int,
    num_requests: int,
    seed: int,
    has_drafts: bool = False,
) -> Report:
    """Run so many random requests in waves; after each, compare its answers with those alone, and look at memory."""
    import mlx.core as mx

    from bench.soak.answers import answer_together
    from bench.soak.check import Checker
    from bench.soak.models import KINDS, make
    from bench.soak.requests import arrivals
    from bench.soak.whims import drafting_at_whim, with_drafts
    from mlxbridge.host.engine.batch import BatchEngine
    from mlxbridge.host.engine.caches.cache_choice import choose_caches
    from mlxbridge.host.engine.caches.cache_plan import CachePlan
    from mlxbridge.host.engine.caches.footprint import measure_footprint

    loaded = make(kind)
    limits = replace(limits, **KINDS[kind].limits)
    row_bytes = measure_footprint(choose_caches(loaded, limits)).row_bytes(1)
    if has_drafts:
        row_bytes += measure_footprint(CachePlan(loaded.model)).row_bytes(1)
    # With drafts the model drafts for itself: so most of them are right.
    engine = BatchEngine(
        loaded,
        replace(limits, kv_bytes=kv_rows * row_bytes, expected_tokens=EXPECTED_TOKENS),
        draft=loaded if has_drafts else None,
    )
    check = Checker(loaded, EngineLimits(prefix_cache_bytes=0, **KINDS[kind].limits))
    engine.open_disk()
    report = Report()
    planned = list(arrivals(num_requests, seed))
    for wave in range(NUM_WAVES):
        part = planned[wave * num_requests // NUM_WAVES : (wave + 1) * num_requests // NUM_WAVES]
        if has_drafts:
            with drafting_at_whim(seed + wave):
                answers = answer_together(engine, with_drafts(part, seed + wave))
        else:
            answers = answer_together(engine, part)
        for arrival in part:
            answer = answers[arrival.number]
            report.differences += [f"{arrival}: {text}" for text in check(arrival, answer)]
            report.tokens += len(answer.token_ids)
            reason = answer.usage.finish_reason if answer.usage is not None else None
            report.cancelled += reason == "cancelled"
            report.stopped += reason == "stop"
            report.late += isinstance(answer.error, DeadlineExceeded)
            report.failed += isinstance(answer.error, InternalError)
        report.requests += len(part)
        report.stats = engine.stats()
        gc.collect()
        mx.synchronize()
        mx.clear_cache()
        kept = sum(report.stats.get(name, 0) for name in ("prefix_cache_bytes", "draft_prefix_bytes"))
        report.memory.append(mx.get_active_memory() - kept)
        print(
            f"{report.requests} requests, {len(report.differences)} differences", file=sys.stderr, flush=True
        )
    engine.close()
    report.checked_by_mlx_lm = check.num_checked_by_mlx_lm
    return report
