"""The commands about models on this machine, with a hub that is a real server.

The host's run in this process, as its command line calls them: each would take as long to start as to run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlxbridge.host.commands import cli
from mlxbridge.host.models.store import classify
from tests.helpers.hub import Repository, run_hub
from tests.integration.hosts import run_host

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    from huggingface_hub import constants

    demo = classify("demo").folder
    assert demo is not None
    files = {path.name: path.read_bytes() for path in demo.iterdir() if path.is_file()}
    with run_hub(org__demo=Repository(files=files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("MLXBRIDGE_HOST_CONFIG", str(tmp_path / "config.toml"))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "MLXBRIDGE_URL"):
            monkeypatch.delenv(name, raising=False)
        # What the environment says was read when these were imported.
        place = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + place)
        yield lambda *arguments: CliRunner().invoke(cli, arguments)


def run_guest(url: str, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mlxbridge", command, "--url", url, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def write(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)


def test_models_are_listed_shown_pulled_and_deleted_without_a_host(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    demo = classify("demo").folder
    assert demo is not None
    folder.symlink_to(demo)
    write(tmp_path, '[models.chat]\nsource = "org/demo"\naliases = ["x"]\n[models.mine]\nsource = "./mine"\n')
    listed = {model["name"]: model for model in json.loads(run("list", "--json").stdout)}
    assert (listed["chat"]["state"], listed["chat"]["disk_bytes"]) == ("not here", 0)
    assert listed["mine"]["state"] == "here"
    assert "mlxbridge-host pull org/demo fetches it" in run("show", "chat").stderr
    pulled = run("pull", "org/demo")
    assert pulled.stdout.startswith("org/demo is in ")
    assert pulled.stderr == ""
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["chat", "mine"]
    assert "3.6 MB  here" in lines[0]
    shown = run("show", "x").stdout
    assert "parameters      1.8M\n" in shown
    assert "aliases         x\n" in shown
    assert json.loads(run("show", "org/demo", "--json").stdout)["architecture"] == "LlamaForCausalLM"
    assert "is a folder of yours" in run("delete", "mine").stderr
    assert "comes with mlxbridge" in run("delete", "demo").stderr
    assert run("delete", "chat").stdout == "org/demo is deleted; 3.6 MB are free\n"
    gone = run("delete", "chat")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "org/demo is not in this machine's cache" in gone.stderr
    assert (folder / "config.json").exists()
    assert run("pull", "org/demo").exit_code == 0
    (weights,) = (tmp_path / "hf").glob("hub/models--*/snapshots/*/model.safetensors")
    weights.unlink()
    assert "  incomplete  " in run("list").stdout
    assert "org/demo is incomplete here; mlxbridge-host pull org/demo goes on" in run("show", "chat").stderr


def test_model_that_a_running_host_has_loaded_is_deleted_only_by_force(run: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir(0o700)
    write(tmp_path, f'listen = ["unix:{run_dir}/s"]\n[models.chat]\nsource = "org/demo"\n')
    assert run("pull", "org/demo").exit_code == 0
    with (
        run_host(
            "unix",
            "--config",
            os.environ["MLXBRIDGE_HOST_CONFIG"],
            "--listen",
            f"unix:{run_dir}/s",
            models=(),
        ) as host,
        host.client() as client,
    ):
        assert "unloaded" in run("list").stdout
        client.load_model("chat")
        assert " ready " in run("list").stdout
        refused = run("delete", "org/demo")
        assert refused.exit_code == 1
        assert "chat is ready and needs these files; --force unloads it first" in refused.stderr
        assert run("delete", "org/demo", "--force").exit_code == 0
        assert client.list_models()[0].state == "unloaded"
        assert run_guest(host.url, "show", "chat").stdout.startswith("name            chat\n")


def test_host_of_another_configuration_is_found_before_files_are_deleted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, usual, elsewhere = tmp_path / "other.toml", tmp_path / "usual", tmp_path / "elsewhere"
    other.write_text('[models.chat]\nsource = "org/demo"\n')
    for folder in (usual, elsewhere):
        folder.mkdir(0o700)
    assert run("pull", "org/demo").exit_code == 0
    write(tmp_path, f'listen = ["unix:{tmp_path}/nobody.sock"]\n')
    options = ("--config", str(other), "--listen", f"unix:{usual}/mlxbridge.sock")
    with run_host("unix", *options, models=()) as host, host.client() as client:
        client.load_model("chat")

        def check_that_it_is_found(*named: str) -> None:
            assert "org/demo     3.6 MB  ready " in run("list", *named).stdout
            refused = run("delete", "org/demo", *named)
            assert "chat is ready and needs these files" in refused.stderr
            assert run("show", "org/demo").exit_code == 0

        monkeypatch.setenv("XDG_RUNTIME_DIR", str(elsewhere))
        check_that_it_is_found("--url", host.url)
        with monkeypatch.context() as patch:
            patch.setenv("MLXBRIDGE_URL", host.url)
            check_that_it_is_found()
        assert "ready" not in run("list").stdout
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(usual))
        check_that_it_is_found()
    assert "nobody" in run("delete", "org/demo", "--url", f"unix://{tmp_path}/nobody").stderr
    assert run("show", "org/demo").exit_code == 0
    deleted = run("delete", "org/demo")
    assert deleted.stdout.startswith("org/demo is deleted")
    assert f"no running host was found at unix://{tmp_path}/nobody.sock, " in deleted.stderr
    assert "--url names another place" in deleted.stderr


def test_nothing_is_unloaded_for_files_that_are_gone(run: Run, tmp_path: Path) -> None:
    write(tmp_path, '[models.chat]\nsource = "org/demo"\n')
    assert run("pull", "org/demo").exit_code == 0
    with (
        run_host("unix", "--config", os.environ["MLXBRIDGE_HOST_CONFIG"], models=()) as host,
        host.client() as client,
    ):
        client.load_model("chat")
        shutil.rmtree(tmp_path / "hf")
        gone = run("delete", "chat", "--force", "--url", host.url)
        assert "org/demo is not in this machine's cache" in gone.stderr
        assert client.list_models()[0].state == "ready"


def test_guest_pulls_shows_and_deletes_from_its_command_line(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "allow_pull = true\n[models.demo]\n")
    with run_host("unix", "--config", os.environ["MLXBRIDGE_HOST_CONFIG"], models=()) as host:
        assert run_guest(host.url, "pull", "org/demo").stdout == "org/demo: unloaded\n"
        shown = run_guest(host.url, "show", "org/demo").stdout
        assert "hub id          org/demo\n" in shown
        assert "capabilities    generate, chat\n" in shown
        assert json.loads(run_guest(host.url, "show", "org/demo", "--json").stdout)["parameters"] == 1845312
        assert run_guest(host.url, "delete", "org/demo").stdout == "org/demo: deleted; 3.6 MB are free\n"
        assert "PermissionDenied" in run_guest(host.url, "delete", "demo").stderr
