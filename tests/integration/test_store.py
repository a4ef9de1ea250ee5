"""Models that a guest pulls, looks at, uses and deletes, by way of a real host and a hub on this machine."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import AsyncClient
from mlxbridge.cli import main
from mlxbridge.errors import InvalidArgument, ModelLoadFailed, ModelNotFound, PermissionDenied, Unavailable
from mlxbridge.host.models.store import classify
from tests.helpers.hub import Hub, Repository, run_hub
from tests.integration.hosts import HostProcess, run_host

MIB = 1 << 20


def demo_files() -> dict[str, bytes]:
    folder = classify("demo").folder
    assert folder is not None
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {**files, "README.md": b"---\nlicense: mit\n---\n# A demo\n"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    slow = Repository(files=demo_files(), stall_at=MIB)
    gated = Repository(files=demo_files(), status=403, error_code="GatedRepo")
    with run_hub(org__demo=Repository(files=demo_files()), org__slow=slow, org__gated=gated) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def host(hub: Hub) -> Iterator[HostProcess]:
    with run_host("unix", "--allow-pull") as host:
        yield host


def test_guest_pulls_a_model_uses_it_and_deletes_it(
    host: HostProcess, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Mapping[str, Any]] = []
    with host.client() as client:
        with pytest.raises(ModelNotFound):
            client.generate("x", model="org/demo")
        pulled = client.pull_model("org/demo", progress=told.append)
        assert (pulled.name, pulled.state, pulled.source) == ("org/demo", "unloaded", "hub")
        assert [item["stage"] for item in told] == ["fetching"] * len(told)
        assert told[-1]["bytes_done"] == told[-1]["bytes_total"] > 3 * MIB
        assert client.chat("What is 27 + 15?", model="org/demo").text == "27 + 15 = 42."
        details = client.show_model("org/demo").details
        assert (details["licence"], details["hub_id"]) == ("mit", "org/demo")
        assert details["disk_bytes"] == told[-1]["bytes_total"]
        with pytest.raises(InvalidArgument, match="force: org/demo is ready") as caught:
            client.delete_model("org/demo")
        assert caught.value.details == {"field": "force"}
        with pytest.raises(SystemExit):
            main(["delete", "org/demo", "--url", host.url])
        assert "org/demo is loaded; --force ends its calls" in capsys.readouterr().err
        assert client.delete_model("org/demo", force=True) >= told[-1]["bytes_total"]
        assert [model.name for model in client.list_models()] == ["demo"]
        assert list(tmp_path.glob("hub/models--*")) == []
        assert client.pull_model("org/demo").state == "unloaded"


def test_every_line_of_the_log_has_its_form_whoever_writes_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull() -> list[dict[str, Any]]:
        with run_host("unix", "--allow-pull", "--log-format", "json") as host, host.client() as client:
            client.pull_model("org/demo")
            return [json.loads(line) for line in host.log.read_text().splitlines()]

    hub.repositories["org/demo"].breaks_at = MIB
    assert any(line["logger"].startswith("huggingface_hub") for line in pull())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (late,) = [line for line in pull() if line["level"] == "warning" and "mlxbridge" in line["logger"]]
    assert late["message"] == "Hugging Face cannot be reached; org/demo is the version that is here"


def test_metrics_have_no_names_that_guests_chose(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with run_host("unix", "--allow-pull", "--metrics", f"unix:{path}") as host, host.client() as client:
        client.pull_model("org/demo")
        with client.stream("x", model="org/demo", max_tokens=700, ignore_eos=True) as stream:
            next(stream)
            client.delete_model("org/demo", force=True)  # and it ends this call
            with pytest.raises(Unavailable):
                stream.read()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            told = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()
    for method, outcome in (("pull", "ok"), ("generate", "Unavailable"), ("delete", "ok")):
        assert f'requests_total{{method="{method}",model="other",outcome="{outcome}"}} 1.0' in told
    assert "org/demo" not in told


def test_what_guests_have_pulled_is_there_after_a_restart(hub: Hub, tmp_path: Path) -> None:
    with run_host("unix", "--allow-pull") as host, host.client() as client:
        client.pull_model("org/demo")
    with run_host("unix") as host, host.client() as client:
        assert [model.name for model in client.list_models()] == ["demo"]
    with run_host("unix", "--allow-pull") as host, host.client() as client:
        assert [model.name for model in client.list_models()] == ["demo", "org/demo"]
        assert client.generate("x", max_tokens=1).model == "demo"
        assert client.delete_model("org/demo", force=True) > 0  # guests have brought it
    assert list(tmp_path.glob("hub/models--*")) == []


def test_what_cannot_be_pulled_or_deleted_is_refused_with_the_reason(host: HostProcess) -> None:
    with host.client() as client:
        for name in ("demo", "/etc", "./org/demo", "org/a b"):
            with pytest.raises(ModelNotFound, match="is no Hugging Face id"):
                client.pull_model(name)
        with pytest.raises(ModelLoadFailed, match="accept its terms"):
            client.pull_model("org/gated")
        with pytest.raises(ModelNotFound, match="org/none"):
            client.pull_model("org/none")
        with pytest.raises(PermissionDenied, match="configured on this host"):
            client.delete_model("demo", force=True)
        with pytest.raises(ModelNotFound):
            client.show_model("org/none")


def test_guests_share_a_download_and_the_last_who_leaves_ends_it(host: HostProcess, hub: Hub) -> None:
    slow = hub.repositories["org/slow"]

    async def pull_twice() -> None:
        async with AsyncClient(host.url) as first, AsyncClient(host.url) as second:
            told: list[Mapping[str, Any]] = []
            tasks = [
                asyncio.ensure_future(each.pull_model("org/slow", progress=told.append))
                for each in (first, second)
            ]
            while len(told) < 2:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            slow.go_on.set()
            assert (await tasks[1]).name == "org/slow"

    asyncio.run(pull_twice())
    assert [path for path, _ in slow.requests].count("model.safetensors") == 1


def test_guest_may_not_pull_unless_the_host_says_so() -> None:
    with run_host("unix") as host, host.client() as client:
        with pytest.raises(PermissionDenied, match="allow_pull"):
            client.pull_model("org/demo")
        with pytest.raises(PermissionDenied):
            client.delete_model("demo")
        details = client.show_model("demo").details
        assert details["architecture"] == "LlamaForCausalLM"
        assert details["parameters"] == 1845312
        assert details["capabilities"] == ["generate", "chat"]
        assert details["context_length"] == 1024
