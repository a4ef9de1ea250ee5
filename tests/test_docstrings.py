"""What docstrings show is what happens: their examples are run against a host with the demo model."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlxbridge
from mlxbridge import Client, Conversation
from mlxbridge.compat import mlx_lm, openai
from mlxbridge.guest import default
from tests.helpers.hub import Repository, run_hub
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import run_host
from tests.integration.test_store import demo_files

REFERENCES = json.loads((Path(__file__).parent / "host/embeddings/references.json").read_text())
SCRIPTS = {
    "What is the weather in Tokyo?": [
        *["<tool_call>", '{"name": "get_weather", "arguments": ', '{"city": "Tokyo"}}', "</tool_call>", END]
    ],
    "<scene:result>": ["It rains ", "in Tokyo.", END],
}


def examples() -> dict[str, doctest.DocTest]:
    """By the name of what has them; the modules are those that public names live in, and what they inherit from."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    dropped_in = {getattr(mlx_lm, name).__module__ for name in mlx_lm.__all__}
    dropped_in |= {mlx_lm.__name__, openai.__name__, openai.OpenAI.__module__, openai.AsyncOpenAI.__module__}
    inherited = {base.__module__ for kind in (Client, Conversation) for base in kind.__mro__[:-1]}
    homes = {"mlxbridge", *inherited, *dropped_in, *mlxbridge._HOME.values()}
    found = [test for home in sorted(homes) for test in finder.find(importlib.import_module(home), home)]
    return {test.name: test for test in found if test.examples}


EXAMPLES = examples()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    save_scripted_model(folder / "caller", SCRIPTS)
    save_model(folder / "all-MiniLM-L6-v2", REFERENCES["models"]["bert"])
    judge: dict[str, Any] = {"pooling": None, "architectures": ["BertForSequenceClassification"]}
    save_model(folder / "ms-marco-MiniLM-L6-v2", REFERENCES["classifiers"]["bert"], **judge)
    names = ("caller", "all-MiniLM-L6-v2", "ms-marco-MiniLM-L6-v2")
    models = ("demo", *(str(folder / name) for name in names))
    with pytest.MonkeyPatch.context() as patch, run_hub(org__demo=Repository(files=demo_files())) as hub:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(folder / "hub"))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        with run_host("unix", "--allow-pull", "--default-model", "demo", models=models) as host:
            with host.client() as client:
                client.load_model("demo", timeout=120)
            patch.setenv("MLXBRIDGE_URL", host.url)
            patch.setattr(default, "_client", None)
            yield host.url
            default.default_client().close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_gives_what_it_shows(name: str, url: str, tmp_path: Path) -> None:
    test = EXAMPLES[name]
    public = {each: getattr(mlxbridge, each) for each in mlxbridge.__all__}
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with Client(url, timeout=120) as client:
        test.globs = {**public, "mlxbridge": mlxbridge, "client": client, "folder": tmp_path}
        for drop_in in (mlx_lm, openai):
            if name.startswith(drop_in.__name__):
                test.globs.update({each: getattr(drop_in, each) for each in drop_in.__all__})
        failed, _ = runner.run(test, out=said.append)
    assert not failed, "".join(said)


@pytest.mark.parametrize("kind", [Client, Conversation])
def test_every_method_shows_how_it_is_used(kind: type) -> None:
    methods: dict[str, Any] = dict(inspect.getmembers(kind, inspect.isfunction))
    public = [name for name in methods if not name.startswith("_") and name != "answer"]
    assert len(public) > 5
    for name in public:
        assert ">>> " in (methods[name].__doc__ or ""), f"{kind.__name__}.{name} has no example"
