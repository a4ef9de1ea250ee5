"""``python -m mlxbridge.host.worker --fd N``: started by the front, never by hand."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import socket
from collections.abc import Mapping
from typing import Any

from mlxbridge.host.engine.environment import prepare_environment
from mlxbridge.host.engine.interface import Engine, EngineLimits
from mlxbridge.host.logs import start_logging
from mlxbridge.host.worker.front import die_with
from mlxbridge.host.worker.loop import Tell, WorkerLoop


def load_engine(params: Mapping[str, Any], tell: Tell) -> Engine:
    """Load the model, make its engine. The heavy imports happen here."""
    prepare_environment()
    from mlxbridge.host.engine.batch import BatchEngine
    from mlxbridge.host.engine.loader import load
    from mlxbridge.host.engine.warmup import warm_up
    from mlxbridge.host.models.store import ModelSource

    wanted = [params] if params["draft"] is None else [params, params["draft"]]
    sources = [ModelSource.from_wire(each) for each in wanted]
    tell("loading")
    loaded, *drafts = [load(source.folder, name=source.name) for source in sources if source.folder]
    engine = BatchEngine(loaded, EngineLimits(**params["limits"]), draft=drafts[0] if drafts else None)
    warm_up(engine, loaded)
    engine.open_disk()
    gc.collect()
    gc.freeze()  # what loading has left stays, and need not be looked through amid answers
    return engine


def main() -> None:
    """Serve the socket that was handed down, until the front closes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--front", type=int, required=True, help="the front's process id")
    parser.add_argument("--log-level", type=int, default=logging.WARNING, help="logging's number of it")
    arguments = parser.parse_args()
    start_logging(arguments.log_level, libraries=logging.WARNING)
    die_with(arguments.front)
    # Ctrl-C and service managers reach the whole group; when to stop is the front's decision, told by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=arguments.fd) as sock:
        WorkerLoop(sock, load_engine).run()


if __name__ == "__main__":
    main()
