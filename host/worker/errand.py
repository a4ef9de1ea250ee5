"""``python -m mlxbridge.host.worker.errand NAME``: does one thing that the front must not, and ends.

What is to be done comes as one JSON line on stdin; what came of it goes to stdout as JSON lines, ``{"progress": …}`` any
number of times, then ``{"result": …}`` or ``{"error": …}``. Where stdin ends, the front has, and this process does.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, to_wire
from mlxbridge.host.engine.environment import prepare_environment
from mlxbridge.host.models.store import (
    ModelSource,
    cached,
    delete_cached,
    fetch,
    list_pulled,
    mark_pulled,
    pull,
    read_facts,
)
from mlxbridge.host.worker.front import die_at_end_of, die_with
from mlxbridge.logs import add_log_options, adopt_library, start_logging

Tell = Callable[[Mapping[str, Any]], object]
"""Takes progress."""

_TELL_EVERY_S = 0.2


def survey_machine(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """What models run on, and how much memory it has; see ``engine.memory.survey``."""
    prepare_environment()
    from mlxbridge.host.engine.memory import survey

    return survey()


def fetch_model(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """A model's source, as ``ModelSource.to_wire`` has it, with its files on this machine."""
    adopt_library("huggingface_hub.utils.logging")
    return fetch(ModelSource.from_wire(params), _telling(params["name"], tell)).to_wire()


def pull_model(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """The newest version of the hub's model ``name``, downloaded for guests: its ``folder``, and whether they have
    ``brought`` it, now or before.
    """
    adopt_library("huggingface_hub.utils.logging")
    was_here = cached(params["name"]) is not None
    folder = pull(params["name"], _telling(params["name"], tell))
    return {"folder": str(folder), "brought": mark_pulled(params["name"], was_here=was_here)}


def find_models(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """``folders`` of the hub's models ``names``, by name; of those that are here and complete."""
    found = {name: cached(name) for name in params["names"]}
    return {"folders": {name: str(folder) for name, folder in found.items() if folder is not None}}


def list_models_of_guests(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """``models``, see ``store.list_pulled``."""
    return {"models": list_pulled()}


def show_model(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """What a model's files say, see ``store.facts.read_facts``; nothing but ``disk_bytes`` 0 if they are not here."""
    source = ModelSource.from_wire(params)
    folder = source.folder or cached(source.name)
    return {"disk_bytes": 0} if folder is None else read_facts(folder)


def delete_model(params: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """``freed_bytes``, by deleting the hub's model ``name`` from its cache."""
    try:
        return {"freed_bytes": delete_cached(params["name"])}
    except OSError as error:
        raise InternalError(f"cannot delete {error.filename}: {error.strerror}") from error


def _telling(name: str, tell: Tell) -> Callable[[int, int], None]:
    """Passes bytes on, not oftener than somebody wants to read."""
    last = -inf

    def progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done_bytes == total_bytes or now - last >= _TELL_EVERY_S:
            last = now
            tell({"stage": "fetching", "model": name, "bytes_done": done_bytes, "bytes_total": total_bytes})

    return progress


ERRANDS: Mapping[str, Callable[[Mapping[str, Any], Tell], Mapping[str, Any]]] = {
    "machine": survey_machine,
    "find": find_models,
    "fetch": fetch_model,
    "pull": pull_model,
    "pulled": list_models_of_guests,
    "show": show_model,
    "delete": delete_model,
}


def main() -> None:
    """Run one, for the front."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=ERRANDS)
    parser.add_argument("--front", type=int, required=True, help="the front's process id")
    add_log_options(parser)
    arguments = parser.parse_args()
    start_logging(arguments.log_level, arguments.log_format, libraries=logging.WARNING)
    die_with(arguments.front)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; when to stop is the front's decision
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer

    def say(kind: str, value: Mapping[str, Any]) -> None:
        answers.write(json.dumps({kind: value}) + "\n")

    params = json.loads(sys.stdin.readline())
    die_at_end_of(sys.stdin.fileno())
    try:
        say("result", ERRANDS[arguments.name](params, lambda item: say("progress", item)))
    except BridgeError as error:
        say("error", to_wire(error))
    except Exception as error:
        say("error", to_wire(InternalError(f"{arguments.name}: {type(error).__name__}: {error}")))


if __name__ == "__main__":
    main()
