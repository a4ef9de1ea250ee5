"""``mlxbridge demo``: a host and a guest on this machine, from start to stop."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import describe
from mlxbridge.errors import TransportError, UsageError

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client

QUESTIONS = ("What is 27 + 15?", "What is the capital of France?", "Count from 1 to 20.")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
_NEEDED = ("mlx_lm", "uvloop", "click")


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    demo = commands.add_parser("demo", help="start a host with the demo model, ask it something, stop it")
    demo.add_argument("question", nargs="*", help="your own questions")
    demo.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> None:
    run(options.question)


def run(questions: Sequence[str]) -> None:
    """Start a host with the demo model, stream an answer to each question, stop it.

    Raises:
        UsageError: the host's libraries are not installed.
        TransportError: the host did not start.
    """
    from mlxbridge.guest.blocking import Client

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the demo runs a host too, which needs {', '.join(missing)}: run pip install '.[host]' in a "
            "clone of mlxbridge"
        )
    with tempfile.TemporaryDirectory(prefix="mlxbridge-") as folder:
        path = f"{folder}/mlxbridge.sock"
        _say(f"starting: mlxbridge-host serve --model demo --listen unix:{path}")
        start = time.monotonic()
        with _host(path) as process, Client(f"unix://{path}") as client:
            _wait_for_host(client, process)
            _say(f"connected to {client.address}; loading the model…")
            model = client.load_model("demo")
            facts = (
                f"{model.details['parameters'] / 1e6:.1f}M parameters"
                if "parameters" in model.details
                else model.state
            )
            _say(f"{model.name} is ready after {time.monotonic() - start:.1f} s ({facts})")
            for question in questions or QUESTIONS:
                _answer(client, question)
        _say(f"the host has stopped (exit status {process.returncode})")


def _answer(client: Client, question: str) -> None:
    print(f"\n> {question}")
    with client.chat(question, stream=True, timeout=60) as stream:
        for chunk in stream:
            print(chunk, end="", flush=True)
        print()
        _say(describe(stream.generation))


@contextmanager
def _host(path: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-P",  # a folder named mlxbridge in the current one is not this package
        "-m",
        "mlxbridge.host",
        "serve",
        "--config",
        os.devnull,
        "--model",
        "demo",
        "--listen",
        f"unix:{path}",
        "--log-level",
        "warning",
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        print(flush=True)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_host(client: Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.ping()
            return
        except TransportError:
            if process.poll() is not None:
                raise TransportError(
                    f"the host ended at once, with status {process.returncode}; its reason is above"
                ) from None
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _say(text: str) -> None:
    """Print about what happens, in grey on a terminal, so that the model's own words stand out."""
    grey = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[90m{text}\033[0m" if grey else text, flush=True)
