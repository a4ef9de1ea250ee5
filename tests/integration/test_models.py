"""What is configured for a model: its adapters, and what its calls leave out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step

from mlxbridge import Client
from mlxbridge.errors import ContextTooLong, InvalidArgument, ModelLoadFailed, ModelNotFound
from tests.host.engine.test_adapters import save_adapter
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer
from tests.integration.hosts import run_host

PROMPT = [5, 9, 33, 70, 120, 64, 8, 300, 21, 17]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("configured")
    save_model(parent / "tiny")
    save_tokenizer(byte_level_tokenizer(), parent / "tiny")
    for seed, name in enumerate(("first", "second")):
        save_adapter(parent / "tiny", parent / name, seed=seed, num_layers=2)
    (parent / "template.jinja").write_text(
        "<s>{% for message in messages %}<{{ message.content }}>{% endfor %}"
    )
    (parent / "config.toml").write_text(
        f"""
        [models.tiny]
        source = "{parent}/tiny"
        aliases = ["small"]
        adapters = {{ first = "{parent}/first", second = "{parent}/second", gone = "{parent}/second" }}
        max_context = 100
        chat_template = "{parent}/template.jinja"
        sampling = {{ max_tokens = 12, ignore_eos = true }}
        """
    )
    return parent


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        run_host("unix", "--config", str(folder / "config.toml"), models=()) as host,
        host.client(timeout=60) as client,
    ):
        yield client


def expected(folder: Path, adapter: str | None, max_tokens: int) -> list[int]:
    loaded: Any = mlx_lm.load(
        str(folder / "tiny"), adapter_path=None if adapter is None else str(folder / adapter)
    )
    return [int(token) for token, _ in generate_step(mx.array(PROMPT), loaded[0], max_tokens=max_tokens)]


def test_adapter_is_asked_for_by_the_name_of_the_model(client: Client, folder: Path) -> None:
    with (
        client.generate(PROMPT, model="tiny+first", stream=True) as first,
        client.generate(PROMPT, model="small+second", stream=True) as second,
        client.generate(PROMPT, model="small", stream=True) as none,
    ):
        streams = first, second, none
        tokens = [[token for chunk in stream for token in chunk.token_ids] for stream in streams]
    assert tokens == [expected(folder, adapter, 12) for adapter in ("first", "second", None)]
    assert client.generate(PROMPT, model="small+first").model == "tiny+first"
    assert client.generate(PROMPT).model == "tiny"
    (entry,) = client.list_models()
    assert entry.details["adapters"] == ["first", "second", "gone"]


def test_adapter_that_is_not_there_is_refused_with_the_nearest(client: Client, folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="tiny has no adapter 'frist'; did you mean 'first'"):
        client.generate(PROMPT, model="tiny+frist")
    with pytest.raises(ModelNotFound, match="no model 'tinny'"):
        client.generate(PROMPT, model="tinny")
    with pytest.raises(ModelNotFound, match=r"no model 'tiny\+first'"):
        client.embed(["a"], model="tiny+first")
    (folder / "second" / "adapters.safetensors").rename(folder / "moved")
    try:
        with pytest.raises(ModelLoadFailed, match="cannot load the adapter gone of tiny"):
            client.generate(PROMPT, model="tiny+gone")
    finally:
        (folder / "moved").rename(folder / "second" / "adapters.safetensors")
    assert client.generate(PROMPT, model="tiny+gone").token_ids == expected(folder, "second", 12)


def test_what_a_call_leaves_out_is_as_configured(client: Client, folder: Path) -> None:
    assert client.generate(PROMPT).completion_tokens == 12
    assert client.generate(PROMPT, max_tokens=7).token_ids == expected(folder, None, 7)
    many = list(client.generate_many([{"prompt": PROMPT}, {"prompt": PROMPT, "max_tokens": 3}], model="tiny"))
    assert sorted(len(outcome.token_ids) for outcome in many) == [3, 12]
    own = r"min_tokens is 20, more than max_tokens, 12 \(tiny has defaults of its own for max_tokens, ignore_eos"
    with pytest.raises(InvalidArgument, match=own) as caught:
        client.generate(PROMPT, min_tokens=20)
    assert caught.value.details["field"] == "min_tokens"


def test_context_and_template_are_as_configured(client: Client) -> None:
    with pytest.raises(ContextTooLong, match="the context of tiny is 100 tokens"):
        client.generate(PROMPT * 9, max_tokens=20)
    (entry,) = client.list_models()
    assert entry.details["context_length"] == 100
    assert client.chat("Hi").token_ids == client.generate("<Hi>").token_ids
    with pytest.raises(InvalidArgument, match="temperature"):
        client.generate(PROMPT, temperature=-1)
