"""One host a transport for the tests that leave it as it was; the others start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxbridge import Client
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host


@pytest.fixture(scope="session", params=TRANSPORTS)
def host(request: pytest.FixtureRequest) -> Iterator[HostProcess]:
    with run_host(request.param) as running:
        with running.client() as client:
            client.load_model("demo", timeout=120)
        yield running


@pytest.fixture
def client(host: HostProcess) -> Iterator[Client]:
    with host.client(timeout=60) as client:
        yield client
