"""``python -m bench.wire.server CASE PATH``: a case's server process; ends when its stdin does."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module

from bench.wire.meter import cpu_seconds, cpu_seconds_of
from bench.wire.plan import CASES


def obey(others: Sequence[int]) -> None:
    """Answer each line with the CPU time so far."""
    for _ in sys.stdin:
        print(cpu_seconds() + sum(map(cpu_seconds_of, others)), flush=True)
    os._exit(0)


def announce(*others: int) -> None:
    """The server is listening, and has these processes beside its own."""
    print("ready", flush=True)
    threading.Thread(target=obey, args=(others,), daemon=True).start()


if __name__ == "__main__":
    case, path = sys.argv[1:]
    import_module(f"bench.wire.{CASES[case].server}").serve(path, announce)
