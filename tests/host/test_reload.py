"""What a new configuration changes of models that are not in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.host.config.config import Config, read_config
from mlxbridge.host.config.overrides import Overrides
from mlxbridge.host.models import pulls as pulls_module
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.library import Library
from mlxbridge.host.reload import reload
from mlxbridge.host.server.listener import Listener
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """What a configuration says of logging is for the whole process."""
    loggers = logging.getLogger(), logging.getLogger("mlxbridge")
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


async def pull(name: str, params: Mapping[str, Any], progress: Any) -> Mapping[str, Any]:
    return {"brought": True}


async def test_pulled_model_follows_the_defaults_until_pulling_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(text: str) -> Config:
        (tmp_path / "config.toml").write_text(text)
        return read_config(tmp_path / "config.toml", Overrides())

    monkeypatch.setattr(pulls_module, "run_errand", pull)
    config = read("allow_pull = true")
    catalogue = Catalogue(config.models, plenty())
    library = Library(catalogue, config.make_settings)
    parts: Any = {"catalogue": catalogue, "library": library, "listener": Listener(None)}
    model = await library.pull("org/name", lambda item: None)

    after = read("allow_pull = true\n[defaults]\nkeep_alive = 7\nmax_batch = 3")
    reload(config, after, **parts)
    assert catalogue.find("org/name") is model
    assert (model.settings.keep_alive_s, model.settings.limits.max_batch) == (7.0, 3)
    assert catalogue.default == "demo"

    reload(after, read("allow_pull = false"), **parts)
    assert [each.name for each in catalogue] == ["demo"]
    await catalogue.close()


async def test_processes_that_run_are_told_how_to_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(text: str) -> Config:
        (tmp_path / "config.toml").write_text(text)
        return read_config(tmp_path / "config.toml", Overrides())

    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    FakeWorker.started = []
    config = read("")
    catalogue = Catalogue(config.models, plenty())
    catalogue.find("demo").start()
    worker = await FakeWorker.number(1)
    try:
        after = read('log_level = "debug"')
        reload(config, after, catalogue=catalogue, library=Library(catalogue), listener=Listener(None))
        assert worker.log_level == logging.DEBUG
    finally:
        await catalogue.close()
