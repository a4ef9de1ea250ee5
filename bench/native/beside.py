"""``python -m bench.native.beside …``: the host's own worker, in whose process mlx_lm answers, too, while no call is open.

Two processes that do the same differ by several percent for as long as they live, and so do one that has run other kernels and
one that has not: in one process both sides have that in common.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from typing import Any

from bench.native.inprocess import connect, make_answer
from mlxbridge.host.worker import __main__ as worker
from mlxbridge.host.worker.loop import LoadModel, Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve

JOBS = "BENCH_NATIVE_JOBS"
"""The environment's name for the socket that mlx_lm's prompts come from."""


class BesideLoop(WorkerLoop):
    """Takes mlx_lm's prompts where the host's own loop would sleep."""

    def __init__(self, sock: socket.socket, load_model: LoadModel) -> None:
        super().__init__(sock, self._load_both)
        self._load_own = load_model
        self._front = sock
        self._jobs: socket.socket | None = None

    def _load_both(self, params: Mapping[str, Any], tell: Tell) -> Serve:
        serve = self._load_own(params, tell)
        self._answer = make_answer(params["folder"])
        self._jobs = connect(os.environ[JOBS])
        self._lines = self._jobs.makefile("rw")
        return serve

    def _read(self, wait_s: float | None) -> None:
        while wait_s is None and self._jobs is not None:
            readable, _, _ = select.select([self._front, self._jobs], [], [])
            if self._front in readable:
                break
            if line := self._lines.readline():
                self._answer(line, self._lines)
            else:
                self._jobs = None
        super()._read(wait_s)


if __name__ == "__main__":
    vars(worker)["WorkerLoop"] = BesideLoop
    worker.main()
