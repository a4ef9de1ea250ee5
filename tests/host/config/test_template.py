from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from mlxbridge.host.config.config import Config
from mlxbridge.host.config.schema import ForModels, HostTable, ModelTable
from mlxbridge.host.config.template import write_template

README = Path(__file__).parents[3] / "host" / "README.md"
KEY = re.compile(r"^# (\w+) = ", re.MULTILINE)


def test_template_is_accepted_as_written_and_configures_the_demo(read: Callable[..., Config]) -> None:
    config = read(write_template())
    assert [model.name for model in config.models] == ["demo"]
    assert config.limits == read().limits


def test_template_has_every_key_and_a_value_for_each_that_is_right() -> None:
    text = write_template()
    data = tomllib.loads(KEY.sub(r"\1 = ", text))
    own = ModelTable.model_fields.keys() - ForModels.model_fields.keys()
    assert data.keys() == HostTable.model_fields.keys()
    assert data["defaults"].keys() == ForModels.model_fields.keys()
    assert data["models"]["demo"].keys() == own
    HostTable.model_validate(data, strict=True)


def test_keys_that_have_a_default_are_shown_with_it() -> None:
    data = tomllib.loads(KEY.sub(r"\1 = ", write_template()))
    assert data["defaults"]["max_batch"] == ForModels().max_batch
    shown = ForModels.model_validate({"keep_alive": data["defaults"]["keep_alive"]})
    assert shown.keep_alive == ForModels().keep_alive


def test_example_in_the_readme_is_right(read: Callable[..., Config]) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        assert read(block).models
