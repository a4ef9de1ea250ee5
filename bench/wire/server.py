"""``python -m bench.wire.server CASE PATH``: a case's server process; ends when its stdin does."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module

from bench.wire.meter import cpu_seconds
from bench.wire.plan import CASES


def obey() -> None:
    """Answer each line with the CPU time so far."""
    for _ in sys.stdin:
        print(cpu_seconds(), flush=True)
    os._exit(0)


def announce() -> None:
    """The server is listening."""
    print("ready", flush=True)
    threading.Thread(target=obey, daemon=True).start()


if __name__ == "__main__":
    case, path = sys.argv[1:]
    import_module(f"bench.wire.{CASES[case].server}").serve(path, announce)
