"""``python -m mlxbridge.host.worker --fd N``: started by the front, never by hand."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.environment import prepare_environment
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.kind import Kind, kind_of
from mlxbridge.host.worker.front import die_with
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve
from mlxbridge.logs import add_log_options, add_to_all, adopt_library, start_logging


def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
    """Load the model, make its engine. The heavy imports happen here."""
    prepare_environment()
    add_to_all(model=params["name"])
    from mlxbridge.host.models.store import ModelSource

    wanted = [params] if params["draft"] is None else [params, params["draft"]]
    sources = [ModelSource.from_wire(each) for each in wanted]
    tell("loading")
    folders = [source.folder for source in sources if source.folder]
    limits = EngineLimits(**params["limits"])
    kind = kind_of(folders[0])
    if kind == "generate":
        serve = _load_generation(params, folders, limits)
    elif params["text_keys"]:
        unused = ", ".join(params["text_keys"])
        raise ModelLoadFailed(f"{params['name']} generates no text, and so has no use for {unused}")
    else:
        serve = _load_vectors(kind, folders[0], params["name"], limits)
    gc.collect()
    gc.freeze()  # what loading has left stays, and need not be looked through amid answers
    return serve


def _load_generation(params: Mapping[str, Any], folders: Sequence[Path], limits: EngineLimits) -> Serve:
    from mlxbridge.host.engine.batch import BatchEngine
    from mlxbridge.host.engine.loader import load
    from mlxbridge.host.engine.text.tokens import Codec
    from mlxbridge.host.engine.warmup import warm_up
    from mlxbridge.host.worker.generation import Generation

    own = {"max_context": params["max_context"], "chat_template": params["chat_template"]}
    loaded = load(folders[0], params["name"], **own)
    draft = load(folders[1], params["draft"]["name"]) if params["draft"] else None
    adopt_library("transformers")
    engine = BatchEngine(loaded, limits, draft=draft, adapters=params["adapters"])
    warm_up(engine, loaded)
    engine.open_disk()
    return partial(Generation, engine, Codec(loaded))


def _load_vectors(kind: Kind, folder: Path, name: str, limits: EngineLimits) -> Serve:
    from mlxbridge.host.embeddings.engine import VectorEngine
    from mlxbridge.host.embeddings.loader import load_encoder, load_reranker
    from mlxbridge.host.embeddings.warmup import warm_up
    from mlxbridge.host.worker.vectors import Vectors

    model = load_encoder(folder, name) if kind == "embed" else load_reranker(folder, name)
    warm_up(model)
    engine = VectorEngine(model, max_waiting=limits.max_batch + limits.max_waiting)
    return partial(Vectors, engine, model.codec)


def main() -> None:
    """Serve the socket that was handed down, until the front closes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--front", type=int, required=True, help="the front's process id")
    add_log_options(parser)
    arguments = parser.parse_args()
    start_logging(arguments.log_level, arguments.log_format, libraries=logging.WARNING)
    die_with(arguments.front)
    # Ctrl-C and service managers reach the whole group; when to stop is the front's decision, told by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=arguments.fd) as sock:
        WorkerLoop(sock, load_model).run()


if __name__ == "__main__":
    main()
