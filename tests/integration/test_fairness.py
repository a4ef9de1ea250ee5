"""Who goes first when a host has one place: guests, priorities, and a queue that is full."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxbridge import Client
from mlxbridge.errors import ContextTooLong, Overloaded
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host


@pytest.fixture(scope="module")
def narrow_host() -> Iterator[HostProcess]:
    """One call at a time, few that wait, little memory; without tokens, so that each connection is a guest."""
    with run_host("unix", "--max-batch", "1", "--max-waiting", "4", "--kv-memory", "700KB") as running:
        with running.client() as client:
            client.load_model("demo", timeout=120)
        yield running


@pytest.fixture
def client(narrow_host: HostProcess) -> Iterator[Client]:
    with narrow_host.client(timeout=60) as client:
        yield client


pytestmark = pytest.mark.skipif(
    "unix" not in TRANSPORTS, reason="what is tested does not depend on the transport"
)


def test_guest_with_one_call_does_not_wait_for_all_of_another(
    narrow_host: HostProcess, client: Client
) -> None:
    with narrow_host.client(timeout=60) as other:
        first = client.generate("a", stream=True, max_tokens=200, ignore_eos=True)
        next(first)
        many = [client.generate("b", stream=True, max_tokens=20, ignore_eos=True) for _ in range(3)]
        while client.status().models[0].details["waiting"] < 3:
            pass
        one = other.generate("c", max_tokens=5, ignore_eos=True)
        waits = [stream.read().usage.queue_seconds for stream in many]
        first.read()
        assert waits == sorted(waits)
        assert one.usage.queue_seconds < waits[1]


def test_high_priority_overtakes_low(client: Client) -> None:
    first = client.generate("a", stream=True, max_tokens=60, ignore_eos=True)
    next(first)
    low = client.generate("b", stream=True, max_tokens=20, ignore_eos=True, priority="low")
    high = client.generate("c", stream=True, max_tokens=20, ignore_eos=True, priority="high")
    assert high.read().usage.queue_seconds < low.read().usage.queue_seconds
    first.read()


def test_more_than_may_wait_is_overloaded_and_says_when_to_come_again(client: Client) -> None:
    streams = [client.generate("a", stream=True, max_tokens=200, ignore_eos=True)]
    next(streams[0])
    with pytest.raises(Overloaded) as caught:
        for _ in range(8):
            streams.append(client.generate("b", stream=True, max_tokens=2))
        for stream in reversed(streams):
            stream.read()
    assert caught.value.retryable and caught.value.retry_after is not None
    for stream in streams:
        stream.close()


def test_memory_is_told_and_kept_to(client: Client) -> None:
    details = client.status().models[0].details
    assert details["kv_bytes_budget"] == 700 * 1024
    assert details["max_batch"] == 1
    fits = (details["kv_bytes_budget"] // details["kv_bytes_per_token"] // 256) * 256 - 1
    assert details["most_tokens"] == fits < details["context_length"]
    with pytest.raises(ContextTooLong) as caught:
        client.generate("a", max_tokens=fits + 1)
    assert caught.value.details["kv_bytes_budget"] == 700 * 1024
