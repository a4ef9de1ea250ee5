"""``python -m bench.wire.client CASE TEST SETTINGS``: starts a server of its own, measures, prints one JSON line."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

from bench.wire.meter import Bench, Result, Server
from bench.wire.plan import CASES, Settings


def measure(case: str, test: str, settings: Settings) -> Result:
    """One test of one case, in this process and one more."""
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        path = str(Path(folder) / "s")
        server = Server(case, path)
        try:
            client = import_module(f"bench.wire.{CASES[case].client}")
            result: Result = client.run(test, Bench(path, server, settings, CASES[case].variant))
            return {key: value for key, value in result.items() if not math.isnan(value)}
        finally:
            server.stop()


if __name__ == "__main__":
    try:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], Settings(**json.loads(sys.argv[3])))), flush=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # threads still wait for tokens that a stopped server will not send
