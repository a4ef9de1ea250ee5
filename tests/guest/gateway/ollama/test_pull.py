"""Models that are pulled and deleted through the gateway, from a hub on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from ollama import Client, ResponseError

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.helpers.hub import Hub, Repository, run_hub
from tests.integration.hosts import run_host
from tests.integration.test_store import MIB, demo_files


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    slow = Repository(files=demo_files(), stall_at=MIB)
    gated = Repository(files=demo_files(), status=403, error_code="GatedRepo")
    with (
        run_hub(org__demo=Repository(files=demo_files()), org__slow=slow, org__gated=gated) as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        yield hub


@pytest.fixture(scope="module")
def gateway(hub: Hub) -> Iterator[GatewayProcess]:
    with run_host("unix", "--allow-pull") as host, run_gateway(host.url) as gateway:
        yield gateway


@pytest.fixture
def ollama(gateway: GatewayProcess) -> Iterator[Client]:
    with Client(gateway.url, timeout=120) as client:
        yield client


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_model_is_pulled_used_and_deleted(ollama: Client) -> None:
    told = list(ollama.pull("hf.co/org/demo:latest", stream=True))
    assert [one.status for one in told[:2]] == ["pulling manifest", "pulling org/demo"]
    assert told[-1].status == "success"
    assert told[-2].completed == told[-2].total and (told[-2].total or 0) > 3 * MIB
    assert all((one.digest or "").startswith("sha256:") for one in told[1:-1])
    assert [model.model for model in ollama.list().models] == ["demo:latest", "org/demo:latest"]
    answer = ollama.generate("org/demo", "What is 27 + 15?")
    assert answer.response == "27 + 15 = 42."
    assert ollama.show("org/demo:latest").license == "mit"
    with pytest.raises(ResponseError, match="force: org/demo is ready") as refused:
        ollama.delete("org/demo")
    assert refused.value.status_code == 400
    forced = httpx.request(
        "DELETE", f"{ollama._client.base_url}/api/delete", json={"name": "org/demo", "force": True}
    )
    assert (forced.status_code, forced.content) == (200, b"")
    assert [model.model for model in ollama.list().models] == ["demo:latest"]
    assert ollama.pull("org/demo", insecure=True).status == "success"
    assert ollama.delete("org/demo").status == "success"


@pytest.mark.parametrize(
    ("name", "told", "status"),
    [
        ("org/nothing", "org/nothing", 404),
        ("no hub id", "is no Hugging Face id", 404),
        ("org/gated", "org/gated is gated", 500),
    ],
)
def test_model_that_cannot_be_had_is_told(ollama: Client, name: str, told: str, status: int) -> None:
    with pytest.raises(ResponseError, match=told) as refused:
        ollama.pull(name)
    assert refused.value.status_code == status
    with pytest.raises(ResponseError, match=told):  # in a line, if the download has begun
        list(ollama.pull(name, stream=True))


def test_pull_ends_when_nobody_watches_it_any_more(ollama: Client, hub: Hub, gateway: GatewayProcess) -> None:
    slow = hub.repositories["org/slow"]
    with httpx.stream("POST", f"{gateway.url}/api/pull", json={"model": "org/slow"}, timeout=120) as news:
        lines = news.iter_lines()  # dropped, it would close the connection
        assert "pulling manifest" in next(lines)
        wait_until(lambda: "model.safetensors" in dict(slow.requests))
    wait_until(lambda: "POST /api/pull 200, cut" in gateway.read_log())
    slow.go_on.set()
    assert ollama.pull("org/slow").status == "success"
    assert [path for path, _ in slow.requests].count("model.safetensors") == 2, "the first one had ended"
    assert ollama.delete("org/slow").status == "success"
