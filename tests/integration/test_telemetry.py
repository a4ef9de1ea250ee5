"""What a real host tells of itself: status, request ids, events, metrics, log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxbridge import Client
from mlxbridge.errors import InvalidArgument
from tests.integration.hosts import HostProcess, run_host


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with run_host("unix") as running:
        with running.client() as client:
            client.load_model("demo", timeout=120)
        yield running


@pytest.fixture
def client(host: HostProcess) -> Iterator[Client]:
    with host.client(timeout=60) as client:
        yield client


def test_status_tells_how_calls_went_lately(client: Client) -> None:
    for _ in range(3):
        answer = client.generate("The ", max_tokens=20, ignore_eos=True)
    (demo,) = client.status().models
    recent = demo.details["recent"]
    assert recent["window_s"] == 60 and recent["calls"] >= 3 and recent["failed"] == 0
    assert 0 < recent["ttft_ms"] <= recent["ttft_ms_p95"] < 10_000
    assert 0 <= recent["queue_ms"] <= recent["queue_ms_p95"]
    assert recent["call_tokens_per_s"] > 1
    assert demo.details["tokens_per_s"] >= 3 * answer.usage.completion_tokens / 10


def test_guest_knows_the_names_of_its_requests(client: Client) -> None:
    ids = {client.generate("The ", max_tokens=1).usage.request_id for _ in range(2)}
    with pytest.raises(InvalidArgument) as caught:
        client.generate("The ", max_tokens=1, top_p=2)
    assert caught.value.request_id
    assert len(ids | {caught.value.request_id}) == 3
    assert "request_id" not in client.load_model("demo").details
