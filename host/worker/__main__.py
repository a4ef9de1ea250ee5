"""``python -m mlxbridge.host.worker --fd N``: started by the front, never by hand."""

from __future__ import annotations

import argparse
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxbridge.host.engine.interface import Engine
from mlxbridge.host.worker.loop import WorkerLoop


def load_engine(params: Mapping[str, Any]) -> Engine:
    """Fetch what is missing, load the model, make its engine. The heavy imports happen here."""
    from mlxbridge.host.engine.batch import BatchEngine
    from mlxbridge.host.engine.loader import load
    from mlxbridge.host.models.store import ModelSource, fetch

    folder = params.get("folder")
    source = fetch(
        ModelSource(name=params["name"], kind=params["kind"], folder=Path(folder) if folder else None)
    )
    assert source.folder is not None
    return BatchEngine(load(source.folder, name=source.name))


def main() -> None:
    """Serve the socket that was handed down, until the front closes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    fd: int = parser.parse_args().fd
    # Ctrl-C and service managers reach the whole group; when to stop is the front's decision, told by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=fd) as sock:
        WorkerLoop(sock, load_engine).run()


if __name__ == "__main__":
    main()
