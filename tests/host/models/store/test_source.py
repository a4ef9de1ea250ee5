from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxbridge.errors import ModelLoadFailed, ModelNotFound
from mlxbridge.host.models.store import ModelSource, classify, resolve, source
from tests.host.models.store.folders import make_folder


def test_classify_demo_is_packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source, "__file__", str(tmp_path / "store" / "source.py"))
    with pytest.raises(ModelLoadFailed, match="packaged demo"):
        classify("demo")
    folder = make_folder(tmp_path / "demo")
    assert classify("demo") == ModelSource(name="demo", kind="demo", folder=folder)


def test_classify_folder_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "org" / "mine")
    expected = ModelSource(name="mine", kind="folder", folder=folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(folder), "./org/mine", "org/mine", "~/org/mine", "org/../org/mine/"):
        assert classify(name) == expected
        assert resolve(name) == expected


def test_classify_folder_that_lacks_files_names_them(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelLoadFailed, match=r"config\.json, weights \(model\*\.safetensors\)") as caught:
        classify(str(tmp_path))
    assert "mlx-community" in caught.value.message


@pytest.mark.parametrize(
    "name", ["", "llama", "a/b/c", "/no/such/folder", "./nothing", "~/nothing", "a b/c", "-x/y"]
)
def test_classify_nothing_of_the_kind_is_not_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound):
        classify(name)


def test_classify_hub_id_needs_no_network() -> None:
    assert classify("mlx-community/Llama-3.2-1B-Instruct-4bit") == ModelSource(
        name="mlx-community/Llama-3.2-1B-Instruct-4bit", kind="hub", folder=None
    )


def test_classify_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mlxbridge.host.models.store import classify; classify('org/name');"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'huggingface_hub'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
