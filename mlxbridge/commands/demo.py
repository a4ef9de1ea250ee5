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
from typing import TYPE_CHECKING, Any, TextIO

from mlxbridge.answers import describe, plain, print_json, print_stream
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
    demo.add_argument(
        "--json",
        action="store_true",
        help="print each answer as a JSON object a line, and nothing else; errors too",
    )
    demo.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> None:
    run(options.question, as_json=options.json)


def run(questions: Sequence[str], *, as_json: bool = False) -> None:
    """Start a host with the demo model, stream an answer to each question, stop it.

    Args:
        questions: some usual ones, if there are none.
        as_json: print the answers as JSON, and on stderr what happens.

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
    voice = sys.stderr if as_json else sys.stdout
    with tempfile.TemporaryDirectory(prefix="mlxbridge-") as folder:
        path = f"{folder}/mlxbridge.sock"
        _say(f"starting: mlxbridge-host serve --model demo --listen unix:{path}", voice)
        start = time.monotonic()
        with _host(path, voice) as process, Client(f"unix://{path}") as client:
            _wait_for_host(client, process)
            _say(f"connected to {client.address}; loading the model…", voice)
            model = client.load_model("demo")
            facts = (
                f"{model.details['parameters'] / 1e6:.1f}M parameters"
                if "parameters" in model.details
                else model.state
            )
            _say(f"{model.name} is ready after {time.monotonic() - start:.1f} s ({facts})", voice)
            for question in questions or QUESTIONS:
                _answer(client, question, as_json)
        _say(f"the host has stopped (exit status {process.returncode})", voice)


def _answer(client: Client, question: str, as_json: bool) -> None:
    if as_json:
        print_json(plain(client.chat(question, timeout=60)))
        return
    print(f"\n> {question}")
    with client.chat(question, stream=True, timeout=60) as stream:
        print_stream(stream)
    _say(describe(stream.generation), sys.stdout)


@contextmanager
def _host(path: str, voice: TextIO) -> Iterator[subprocess.Popen[bytes]]:
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
        print(file=voice, flush=True)
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


def _say(text: str, voice: TextIO) -> None:
    """Print about what happens, in grey on a terminal, so that the model's own words stand out."""
    grey = voice.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[90m{text}\033[0m" if grey else text, file=voice, flush=True)
