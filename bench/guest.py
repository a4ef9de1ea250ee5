"""``python -m bench guest``: what the guest library weighs, on disk and at import."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import machine
from bench.stats import align, median, show

ROOT = Path(__file__).parents[1]
IMPORTS = {
    "nothing": "pass",
    "import msgpack": "import msgpack",
    "import mlxbridge": "import mlxbridge",
    "mlxbridge.Client": "import mlxbridge; mlxbridge.Client",
    "mlxbridge.AsyncClient": "import mlxbridge; mlxbridge.AsyncClient",
    "import grpc": "import grpc",
    "import httpx": "import httpx",
    "import openai": "import openai",
}
"""By title, what a fresh interpreter runs; those of packages that are not installed are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=int, default=31, help="fresh interpreters for each import (default: 31)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: bench/results/guest-DATE-TIME.json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, write the file."""
    about = machine.describe()
    imports = measure_imports(arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        sizes = measure_wheel(build_wheel(Path(folder)))
    print(machine.summary(about), end="\n\n")
    for line in render(imports, sizes):
        print(line)
    path = machine.results_path("guest", arguments.output)
    machine.save({"bench": "guest", **about, "imports": imports, "sizes": sizes}, path)
    print(f"all rounds: {path}")


def measure_imports(num_rounds: int, titles: Iterable[str] = IMPORTS) -> dict[str, dict[str, list[float]]]:
    """By title, milliseconds of each round: on the clock, and of the processor; an interpreter's own start is in them."""
    found: dict[str, dict[str, list[float]]] = {}
    for title in titles:  # the first one of each reads its files into memory, and compiles them
        code = IMPORTS[title]
        if subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 0:
            found[title] = {"wall_ms": [], "cpu_ms": []}
    for _ in range(num_rounds):
        for title, taken in found.items():
            before, started = _cpu_s(), time.perf_counter()
            subprocess.run([sys.executable, "-c", IMPORTS[title]], cwd=ROOT, check=True)
            taken["wall_ms"].append((time.perf_counter() - started) * 1e3)
            taken["cpu_ms"].append((_cpu_s() - before) * 1e3)
    return found


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build_wheel(folder: Path) -> Path:
    """Of this checkout, as ``pip`` would."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


HOST_ENDS = (
    *(f"mlxbridge/protocol/{name}.py" for name in ("host", "answering", "answers")),
    *(f"mlxbridge/transport/{name}.py" for name in ("listen", "activation", "peers")),
)
"""Of a connection: the other ends are the guest's."""


def measure_wheel(wheel: Path) -> dict[str, int]:
    """Bytes: of the wheel, and in it, compressed, of the guest's code and of its single parts."""
    sizes = {"wheel": wheel.stat().st_size}
    for entry in zipfile.ZipFile(wheel).infolist():
        if is_guest_code(entry.filename):
            sizes["guest code"] = sizes.get("guest code", 0) + entry.compress_size
            part = f"  {Path(entry.filename).parent}/"
            sizes[part] = sizes.get(part, 0) + entry.compress_size
    return sizes


def is_guest_code(name: str) -> bool:
    """Whether a file of the wheel is code that a guest may load: all but what only hosts and the gateway do."""
    others = ("mlxbridge/host/", "mlxbridge/guest/gateway/", *HOST_ENDS)
    return name.startswith("mlxbridge/") and name.endswith(".py") and not name.startswith(others)


def render(imports: dict[str, dict[str, list[float]]], sizes: dict[str, int]) -> Iterator[str]:
    """Both tables, line by line."""
    base = imports["nothing"]
    rows = [["beyond an interpreter that does nothing", "ms", "CPU ms"]]
    for title, taken in imports.items():
        if title != "nothing":
            own = [show(median(_beyond(taken[key], base[key]))) for key in ("wall_ms", "cpu_ms")]
            rows.append([title, *own])
    yield from align(rows)
    yield ""
    yield from align([["in the wheel", "KB"], *([name, show(size / 1000)] for name, size in sizes.items())])
    yield ""


def _beyond(taken: list[float], base: list[float]) -> list[float]:
    return [one - other for one, other in zip(taken, base, strict=True)]
