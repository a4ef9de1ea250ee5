"""Models from a hub that is a real HTTP server on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelNotFound
from mlxbridge.host.models.store import ModelSource, fetch, pull
from mlxbridge.host.models.store.hub import cached
from tests.helpers.hub import SHA, Hub, Repository
from tests.host.models.store.folders import make_folder

Serve = Callable[..., Hub]
HUB = ModelSource(name="org/name", kind="hub", folder=None)
MIB = 1 << 20
PARTIAL = "*.mlxbridge.incomplete"


def repository(num_mib: int = 1, **others: object) -> Repository:
    files = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"[]",
        "model.safetensors": os.urandom(num_mib * MIB),
        "2_Dense/model.safetensors": os.urandom(100),
        "README.md": b"# a card",
        "modeling.py": b"print('never')",
        "pytorch_model.bin": b"pickled",
    }
    return Repository(files=files, **others)  # type: ignore[arg-type]


def fetch_error(expected: type[BridgeError], name: str = "org/name") -> str:
    with pytest.raises(expected) as caught:
        pull(name)
    assert name in caught.value.message
    return caught.value.message


def test_model_is_downloaded_whole_but_for_what_nobody_reads(serve: Serve, cache: Path) -> None:
    files = repository().files
    hub = serve(org__name=Repository(files=files))
    told: list[tuple[int, int]] = []
    folder = fetch(HUB, lambda done, total: told.append((done, total))).folder
    assert folder == cache / "models--org--name" / "snapshots" / SHA
    wanted = files.keys() - {"modeling.py", "pytorch_model.bin"}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == wanted
    assert all((folder / name).read_bytes() == files[name] for name in wanted)
    total = sum(len(files[name]) for name in wanted)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert list(cache.rglob(PARTIAL)) == []
    assert cached("org/name") == folder
    hub.repositories.clear()
    assert fetch(HUB, lambda done, total: pytest.fail("it is here")).folder == folder


def test_connection_that_breaks_is_taken_up_where_it_broke(serve: Serve) -> None:
    served = repository(15, breaks_at=11 * MIB)
    serve(org__name=served)
    assert (pull("org/name") / "model.safetensors").read_bytes() == served.files["model.safetensors"]
    begins = [begin for path, begin in served.requests if path == "model.safetensors"]
    assert begins == [0, 10 * MIB]  # what is handed on in pieces of 10 MiB


def test_process_that_is_killed_leaves_what_the_next_one_goes_on_with(serve: Serve, cache: Path) -> None:
    served = repository(25, stall_at=21 * MIB)
    serve(org__name=served)
    code = (
        "from mlxbridge.host.models.store import pull\n"
        "pull('org/name', lambda done, total: print(done, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 20 * MIB:
                break
        child.kill()
    (partial,) = cache.rglob(PARTIAL)
    assert partial.stat().st_size == 20 * MIB
    served.go_on.set()
    assert cached("org/name") is None
    told: list[int] = []
    folder = pull("org/name", lambda done, total: told.append(done))
    assert (folder / "model.safetensors").read_bytes() == served.files["model.safetensors"]
    begins = [begin for path, begin in served.requests if path == "model.safetensors"]
    assert begins == [0, 20 * MIB]
    assert any(20 * MIB <= done < 21 * MIB for done in told)
    assert list(cache.rglob(PARTIAL)) == []


def test_damaged_remains_of_a_download_are_noticed_and_deleted(serve: Serve, cache: Path) -> None:
    served = repository(3)
    serve(org__name=served)
    pull("org/name")
    (blob,) = (path for path in cache.rglob("blobs/*") if path.stat().st_size == 3 * MIB)
    blob.rename(blob.with_name(f"{blob.name}.mlxbridge.incomplete"))
    (partial,) = cache.rglob(PARTIAL)
    with partial.open("r+b") as file:
        file.truncate(2 * MIB)
        file.write(b"damage")
    assert "came damaged" in str(pytest.raises(ModelLoadFailed, pull, "org/name").value)
    assert (pull("org/name") / "model.safetensors").read_bytes() == served.files["model.safetensors"]


def test_two_that_download_the_same_wait_for_each_other(serve: Serve) -> None:
    served = repository(2, stall_at=MIB)
    serve(org__name=served)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(pull("org/name"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    served.go_on.set()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert [path for path, _ in served.requests].count("model.safetensors") == 1


def test_ctrl_c_ends_a_download_at_once_and_keeps_what_has_come(serve: Serve, cache: Path) -> None:
    served = repository(100, stall_at=21 * MIB, pace_s=0.05)
    serve(org__name=served)
    command = [sys.executable, "-m", "mlxbridge.host", "pull", "org/name"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as child:
        while not any(path.stat().st_size >= 20 * MIB for path in cache.rglob(PARTIAL)):
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        served.go_on.set()
        assert child.stderr is not None
        said = child.stderr.read()
    assert "interrupted; the next pull goes on where this one stopped" in said
    assert child.returncode == 1
    (partial,) = cache.rglob(PARTIAL)
    assert partial.stat().st_size >= 20 * MIB


def test_cached_copy_is_used_without_network(cache: Path) -> None:
    repository = cache / "models--org--name"
    folder = make_folder(repository / "snapshots" / SHA)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SHA)
    assert fetch(HUB, lambda done, total: pytest.fail("it is here")) == ModelSource(
        name="org/name", kind="hub", folder=folder
    )


def test_what_is_no_mlx_model_says_what_is_missing(serve: Serve) -> None:
    serve(org__name=Repository(files={"config.json": b"{}", "tokenizer.json": b"{}"}))
    assert "weights" in fetch_error(ModelLoadFailed)


def test_unknown_model_is_not_found(serve: Serve) -> None:
    serve()
    assert "HF_TOKEN" in fetch_error(ModelNotFound)


@pytest.mark.parametrize("status", [401, 403])
def test_gated_model_says_where_to_accept(serve: Serve, status: int) -> None:
    serve(org__name=repository(status=status, error_code="GatedRepo"))
    assert "https://huggingface.co/org/name" in fetch_error(ModelLoadFailed)


def test_fault_of_the_hub_is_told_with_its_number(serve: Serve) -> None:
    serve(org__name=repository(status=500))
    message = fetch_error(ModelLoadFailed)
    assert "500" in message
    assert "goes on where it stopped" in message


def test_hub_that_nobody_answers_for_cannot_be_reached(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    serve()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "Hugging Face cannot be reached (" in fetch_error(ModelLoadFailed)


def test_version_that_is_here_is_used_if_the_hub_cannot_be_reached(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import constants

    serve(org__name=repository())
    folder = pull("org/name")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert pull("org/name") == folder
    assert "org/name is the version that is here" in caplog.text


def test_offline_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fetch_error(ModelLoadFailed)


def test_full_disk_is_told_of(serve: Serve, cache: Path) -> None:
    serve(org__name=repository())
    cache.parent.joinpath("hub").write_text("a file where the cache should be")
    assert "Try again" in fetch_error(ModelLoadFailed)


def test_id_that_the_hub_refuses_is_not_found(cache: Path) -> None:
    assert "not a Hugging Face id" in fetch_error(ModelNotFound, "org/a--b")
