"""``python -m bench.wire.ready_worker --fd N …``: a worker whose vectors are ready before they are asked for."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from bench.wire.workload import Floats, ready_vectors
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection


class Ready:
    """Answers each ``embed`` at once; a ``Service``."""

    wait_s = None
    tokens_total = 0

    def __init__(self, vectors: dict[int, Floats], connection: HostConnection, model: str) -> None:
        self._vectors = vectors
        self._connection = connection

    def open(self, event: CallOpened) -> None:
        send_ready(self._connection, event.call, event.params["request"], self._vectors)

    def cancel(self, call: int) -> None:
        self._connection.finish(call, {})

    def turn(self) -> None:
        """Nothing is left to do."""

    def describe(self) -> dict[str, Any]:
        return {}

    def stats(self) -> dict[str, int]:
        return {"tokens_total": 0}

    def close(self) -> None:
        """Nothing to end."""


def send_ready(
    connection: HostConnection, call: int, params: Mapping[str, Any], vectors: dict[int, Floats]
) -> None:
    """As many as the first input says."""
    count = int(params["inputs"][0])
    if count not in vectors:
        vectors[count] = ready_vectors(count)
    shape = list(vectors[count].shape)
    connection.send_data(call, {"dtype": "float32", "shape": shape}, vectors[count].data)
    connection.finish(call, {})


def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
    return partial(Ready, {})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    with socket.socket(fileno=arguments.fd) as sock:
        WorkerLoop(sock, load_model).run()


if __name__ == "__main__":
    main()
