from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelNotFound
from mlxbridge.host.models.store import ModelSource, classify, fetch, resolve, source

HUB = ModelSource(name="org/name", kind="hub", folder=None)


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache on an empty folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch, hub: Path) -> Callable[[Any], list[dict[str, Any]]]:
    """Make the hub answer with a folder or an error, after the cache said no."""

    def answer(outcome: Any) -> list[dict[str, Any]]:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked: list[dict[str, Any]] = []

        def snapshot_download(hub_id: str, **options: Any) -> str:
            asked.append({"hub_id": hub_id, **options})
            if options.get("local_files_only"):
                raise LocalEntryNotFoundError("not in the cache")
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return answer


def http_error(name: str, status: int) -> Exception:
    from huggingface_hub import errors

    class Response:
        status_code = status
        headers: dict[str, str] = {}
        request = None

    make: Any = getattr(errors, name)
    error = make.__new__(make)
    Exception.__init__(error, f"{status} Client Error")
    error.response = Response()
    return error  # type: ignore[no-any-return]


def fetch_error(expected: type[BridgeError]) -> str:
    with pytest.raises(expected) as caught:
        fetch(HUB)
    assert "org/name" in caught.value.message
    return caught.value.message


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


def test_fetch_uses_a_cached_copy_without_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = hub / "models--org--name"
    folder = make_folder(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    told: list[str] = []
    found = fetch(HUB, before_download=lambda: told.append("fetching"))
    assert found == ModelSource(name="org/name", kind="hub", folder=folder)
    assert told == []


def test_fetch_offline_says_so(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fetch_error(ModelLoadFailed)


def test_fetch_downloads_only_what_mlx_lm_reads(download: Any, tmp_path: Path) -> None:
    asked = download(make_folder(tmp_path / "got"))
    told: list[int] = []
    assert fetch(HUB, before_download=lambda: told.append(len(asked))).folder == tmp_path / "got"
    assert told == [1]  # between the look into the cache and the download
    assert [request.get("local_files_only", False) for request in asked] == [True, False]
    assert "model*.safetensors" in asked[1]["allow_patterns"]
    assert "*.py" not in asked[1]["allow_patterns"]


def test_fetch_what_is_no_mlx_model_says_what_is_missing(download: Any, tmp_path: Path) -> None:
    (make_folder(tmp_path) / "model.safetensors").unlink()
    download(tmp_path)
    assert "weights" in fetch_error(ModelLoadFailed)


def test_fetch_unknown_id_is_not_found(download: Any) -> None:
    download(http_error("RepositoryNotFoundError", 401))
    assert "HF_TOKEN" in fetch_error(ModelNotFound)


def test_fetch_gated_says_where_to_accept(download: Any) -> None:
    download(http_error("GatedRepoError", 403))
    assert "https://huggingface.co/org/name" in fetch_error(ModelLoadFailed)


def test_fetch_without_network_gives_the_cause(download: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    error = LocalEntryNotFoundError("Got: ConnectError")
    error.__cause__ = OSError("name resolution failed")
    download(error)
    message = fetch_error(ModelLoadFailed)
    assert "cannot be reached (name resolution failed)" in message


def test_fetch_broken_off_can_be_repeated(download: Any) -> None:
    download(OSError("No space left on device"))
    assert "No space left" in fetch_error(ModelLoadFailed)


def test_fetch_id_that_the_hub_refuses_is_not_found(hub: Path) -> None:
    with pytest.raises(ModelNotFound, match="not a Hugging Face id"):
        fetch(ModelSource(name="org/a--b", kind="hub", folder=None))
