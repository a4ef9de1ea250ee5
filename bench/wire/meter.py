"""Clocks: wall time and the CPU time of both processes, between two moments."""

from __future__ import annotations

import asyncio
import json
import math
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.stats import percentile
from bench.wire.plan import Settings

Result = dict[str, float]


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds_of(pid: int) -> float:
    """Of another process, all its threads; NaN where the system does not tell (Linux does)."""
    try:
        files = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9
    except OSError:
        return math.nan


class Server:
    """The server process of a case; a thread of it answers each line on its stdin with its CPU seconds."""

    def __init__(self, case: str, path: str) -> None:
        command = [sys.executable, "-m", "bench.wire.server", case, path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready")

    def cpu_seconds(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("usage\n")
        self._process.stdin.flush()
        return float(self._line())

    def stop(self) -> None:
        with self._process:  # which closes its pipes, too
            self._process.kill()

    def _expect(self, word: str) -> None:
        line = self._line()
        if line != word:
            self.stop()
            raise RuntimeError(f"the server said {line!r}, not {word!r}")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What happened between two moments; ``first`` and ``last`` are counts at its ends."""

    seconds: float
    server: float
    client: float
    first: int
    last: int

    def cpu(self, units: float, scale: float = 1e6) -> Result:
        """CPU time a unit: of both, of each."""
        units = units or float("nan")
        return {
            "cpu": (self.server + self.client) / units * scale,
            "cpu_server": self.server / units * scale,
            "cpu_client": self.client / units * scale,
        }


class Meter:
    """Runs from its making to ``stop``."""

    def __init__(self, server: Server, first: int = 0) -> None:
        self._server = server
        self._first = first
        self._server_cpu = server.cpu_seconds()
        self._client_cpu = cpu_seconds()
        self._start = time.perf_counter()

    def stop(self, last: int = 0) -> Span:
        return Span(
            seconds=time.perf_counter() - self._start,
            client=cpu_seconds() - self._client_cpu,
            server=self._server.cpu_seconds() - self._server_cpu,
            first=self._first,
            last=last,
        )


class Tally:
    """What one stream has brought."""

    __slots__ = ("chunks", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.chunks = 0


class Bench:
    """What a client module is given: where the server is, and how to measure."""

    def __init__(self, path: str, server: Server, settings: Settings, variant: str) -> None:
        self.path = path
        self.server = server
        self.settings = settings
        self.variant = variant
        self._failures: list[BaseException] = []

    def round_trips(self, call: Callable[[], object]) -> Result:
        """Time calls one by one."""
        self._repeat(call, self.settings.warm, [])
        took: list[int] = []
        meter = Meter(self.server)
        self._repeat(call, self.settings.seconds, took)
        return round_trip_result(meter.stop(), took)

    def payloads(self, fetch: Callable[[], int]) -> Result:
        """A call with a payload for each line on stdin, and before them one to warm up; ``fetch`` gives how many bytes it was.

        Prints a line for each call.
        """
        print(fetch(), flush=True)
        for _ in sys.stdin:
            meter = Meter(self.server)
            num_bytes = fetch()
            span = meter.stop()
            result = {"ms": span.seconds * 1000, **bulk_result(span, num_bytes)}
            print(
                json.dumps({key: value for key, value in result.items() if not math.isnan(value)}), flush=True
            )
        return {}

    def _repeat(self, call: Callable[[], object], seconds: float, took: list[int]) -> None:
        clock = time.perf_counter_ns
        end = clock() + int(seconds * 1e9)
        now = clock()
        while now < end:
            call()
            then, now = now, clock()
            took.append(now - then)

    def start_threads(self, bodies: Sequence[Callable[[], object]]) -> None:
        for body in bodies:
            threading.Thread(target=self._guard, args=(body,), daemon=True).start()

    def watch(self, count: Callable[[], int]) -> Span:
        """Sleep through the warm-up and the measurement, while other threads work."""
        time.sleep(self.settings.warm)
        meter = Meter(self.server, count())
        time.sleep(self.settings.seconds)
        span = meter.stop(count())
        for failure in self._failures:
            raise failure
        return span

    async def watch_async(self, count: Callable[[], int], tasks: Sequence[asyncio.Task[None]]) -> Span:
        """As ``watch``, while tasks work."""
        await asyncio.sleep(self.settings.warm)
        meter = Meter(self.server, count())
        await asyncio.sleep(self.settings.seconds)
        span = meter.stop(count())
        for task in tasks:
            if task.done():
                task.result()
                raise RuntimeError("a stream ended before the measurement did")
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return span

    def _guard(self, body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:
            self._failures.append(error)


def round_trip_result(span: Span, took_ns: Sequence[int]) -> Result:
    return {
        "p50_us": percentile(took_ns, 0.5) / 1000,
        "p99_us": percentile(took_ns, 0.99) / 1000,
        **span.cpu(len(took_ns)),
    }


def rate_result(span: Span, tallies: Sequence[Tally]) -> Result:
    """Of streams; ``first`` and ``last`` count tokens."""
    tokens, chunks = sum(tally.tokens for tally in tallies), sum(tally.chunks for tally in tallies)
    count = span.last - span.first
    return {
        "tokens_per_s": count / span.seconds,
        "tokens_per_chunk": tokens / (chunks or 1),
        **span.cpu(count),
    }


def paced_result(span: Span, ages_us: Sequence[int]) -> Result:
    """Of streams at a pace; ``first`` and ``last`` are places in ``ages_us``."""
    ages = ages_us[span.first : span.last]
    return {
        "p50_us": percentile(ages, 0.5),
        "p99_us": percentile(ages, 0.99),
        "tokens_per_s": len(ages) / span.seconds,
        **span.cpu(len(ages)),
    }


def bulk_result(span: Span, num_bytes: int) -> Result:
    return {"gb_per_s": num_bytes / span.seconds / 1e9, **span.cpu(num_bytes / 1e6, 1e3)}
