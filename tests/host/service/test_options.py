from __future__ import annotations

from pathlib import Path

import click
import pytest

from mlxbridge.host.commands.serve import serve
from mlxbridge.host.config.overrides import FLAG_KEYS
from mlxbridge.host.config.schema import field_of
from mlxbridge.host.service.options import PATHS, spell


def spelled(*words: str, names: tuple[str, ...] = ()) -> list[str]:
    with serve.make_context("serve", list(words)) as context:
        return list(spell(context, leave_out=["listen"], names=names))


def test_options_are_repeated_without_those_left_out_and_those_at_their_defaults() -> None:
    assert spelled() == []
    words = ["--model", "demo", "--model", "org/name", "--no-allow-pull", "--max-batch", "8"]
    assert spelled("--listen", "unix:/x", *words, "--listen=tcp:127.0.0.1:1") == words


def test_variables_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXBRIDGE_HOST_MAX_BATCH", "8")
    monkeypatch.setenv("MLXBRIDGE_HOST_ALLOW_PULL", "true")
    assert spelled("--max-waiting", "9") == ["--allow-pull", "--max-batch", "8", "--max-waiting", "9"]


def test_paths_mean_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("llama", "demo", "draft"):
        (tmp_path / name).mkdir()
    given = ["--model", "llama", "--model", "~/llama", "--model", "demo", "--model", "org/llama"]
    here = str(tmp_path)
    assert spelled(*given) == [
        *("--model", f"{here}/llama", "--model", f"{here}/llama", "--model", "demo", "--model", "org/llama")
    ]
    assert spelled("--model", "llama", "--draft-model", "llama=./draft") == [
        *("--model", f"{here}/llama", "--draft-model", f"{here}/llama={here}/draft")
    ]
    assert spelled("--model", "llama", names=("llama",)) == ["--model", "llama"]
    assert spelled("--config", "mine.toml") == ["--config", f"{here}/mine.toml"]
    assert spelled("--token-file", "tokens") == ["--token-file", f"{here}/tokens"]
    assert spelled("--prefix-disk", "1GB", "--prefix-disk-folder", "cache")[-1] == f"{here}/cache"


def test_wrong_option_is_refused_as_serve_does() -> None:
    with pytest.raises(click.UsageError, match="--max-bach"):
        spelled("--max-bach", "8")


def test_every_path_is_known_to_be_one() -> None:
    for key in FLAG_KEYS:
        field = field_of(key)
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        assert ("Path" in str(field.annotation)) == (extra["metavar"] in PATHS), key
