"""The same through a real host: ``mlxbridge-host serve`` in a process of its own, ``mlxbridge.Client`` here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.native.beside import JOBS
from bench.native.sample import Sample, take
from mlxbridge import Client
from mlxbridge.errors import TransportError

START_S = 30.0
LOAD_S = 300.0


def measure(client: Client, job: dict[str, Any]) -> list[Sample]:
    """One sample a prompt."""

    def generate(prompt: list[int]) -> Iterator[list[int]]:
        for chunk in client.generate(prompt, max_tokens=job["max_tokens"], stream=True):
            yield chunk.token_ids

    for warm_up in job["warm_up"]:
        take(generate(warm_up))
    return [take(generate(prompt)) for prompt in job["prompts"]]


@contextmanager
def open_host(folder: str, jobs: Path | None = None) -> Iterator[Client]:
    """A host that has the model loaded; it sleeps while it is not asked.

    Args:
        folder: the model's.
        jobs: a socket that listens, from which mlx_lm in the worker's process takes prompts; None: there is none.
    """
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as run:
        url = f"unix://{Path(run) / 's'}"
        module = "mlxbridge.host" if jobs is None else "bench.native.host"
        command = [sys.executable, "-m", module, "serve", "--config", os.devnull]
        command += ["--listen", f"unix:{Path(run) / 's'}"]
        host = subprocess.Popen(
            [*command, "--model", folder, "--prefix-cache", "0", "--log-level", "warning"],
            env=os.environ if jobs is None else {**os.environ, JOBS: str(jobs)},
        )
        try:
            with Client(url) as client:
                _await_host(client, host)
                client.load_model(client.list_models()[0].name, timeout=LOAD_S)
                yield client
        finally:
            host.terminate()
            host.wait()


def _await_host(client: Client, host: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            client.ping()
            return
        except TransportError:
            if host.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
