from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.text.tokens import Codec
from mlxbridge.host.worker.generation import Generation
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve
from mlxbridge.protocol.events import ResultReceived
from tests.host.engine.probes import models_are_probed_once  # noqa: F401
from tests.host.engine.scripted import save_scripted_model
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer
from tests.host.worker.front_end import FrontEnd


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("model")
    save_model(folder)
    save_tokenizer(byte_level_tokenizer(), folder)
    return load(folder, "tiny")


@pytest.fixture
def front(loaded: LoadedModel) -> Iterator[FrontEnd]:
    def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
        tell("loading")
        if params.get("name") == "bad":
            raise ModelLoadFailed("no such weights")
        return partial(Generation, BatchEngine(loaded, EngineLimits(max_batch=4)), Codec(loaded))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = FrontEnd(ours, WorkerLoop(theirs, load_model))
        end.turn()
        assert end.connection.ready
        yield end


@pytest.fixture
def ready(front: FrontEnd) -> FrontEnd:
    call = front.connection.open_call("load", {"name": "tiny"})
    front.turn()
    end = front.end(call)
    assert isinstance(end, ResultReceived)
    assert end.result["architecture"] == "LlamaForCausalLM"
    return front


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model whose reasoning ends in what might become a marker."""
    folder = tmp_path_factory.mktemp("thinking")
    save_scripted_model(folder, {"<think>": ["hm ", "so", "<", "/think", "</s>"], "</think>": ["x"]})
    return load(folder, "thinking")
