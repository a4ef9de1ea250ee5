"""One host a transport for the tests that leave it as it was; the others start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxbridge import Client
from tests.integration.hosts import ELSEWHERE, TRANSPORTS, Host, run_host, wait_until_it_answers


@pytest.fixture(scope="session", params=TRANSPORTS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    if ELSEWHERE:
        host = Host(url=ELSEWHERE)
        wait_until_it_answers(host)
        _load(host)
        yield host
        return
    with run_host(request.param) as running:
        _load(running)
        yield running


def _load(host: Host) -> None:
    with host.client() as client:
        client.load_model("demo", timeout=120)


@pytest.fixture
def client(host: Host) -> Iterator[Client]:
    with host.client(timeout=60) as client:
        yield client
