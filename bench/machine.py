"""Where and with what a measurement was made: the part of a results file that makes it worth keeping."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Lists of numbers go on one line.
_NUMBERS = re.compile(r"\[\s+-?\d[\d\s.,eE+-]*\]")

RESULTS = Path(__file__).with_name("results")
PACKAGES = (
    "mlxbridge",
    "msgpack",
    "uvloop",
    "numpy",
    "grpcio",
    "uvicorn",
    "httptools",
    "httpx",
    "mlx",
    "mlx-lm",
)


def describe() -> dict[str, Any]:
    """Machine, versions, date, command line, the commit, and how busy the machine is."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "load": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def summary(about: Mapping[str, Any]) -> str:
    """The same in two lines."""
    machine, versions = about["machine"], about["versions"]
    load = ", ".join(map(str, machine["load"]))
    return (
        f"{about['date']}  {machine['processor']}, {machine['cores']} cores, {machine['system']}, load {load}\n"
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )


def save(results: Mapping[str, Any], path: Path) -> None:
    """Write a results file; one that is there stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _NUMBERS.sub(lambda found: " ".join(found.group().split()), json.dumps(results, indent=1))
    new = path.with_name(f"{path.name}.new")
    new.write_text(text + "\n", encoding="utf-8")
    new.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        OSError, ValueError: there is none, or it is something else.
    """
    results = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(results, dict):
        raise ValueError("it is not a results file")
    return results


def results_path(name: str, given: Path | None) -> Path:
    """Where to write, unless told: ``results/NAME-DATE-TIME.json``."""
    return given or RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
