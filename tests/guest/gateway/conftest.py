"""Hosts with the demo model and gateways in front of them, for tests that leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess, run_host


@pytest.fixture(scope="session")
def host() -> Iterator[HostProcess]:
    with run_host("unix") as host:
        yield host


@pytest.fixture(scope="session")
def gateway(host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(host.url) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def endless_host() -> Iterator[HostProcess]:
    """One whose answers need never end."""
    with run_host("unix", "--kv-window", "256") as host:
        with host.client() as client:
            client.load_model("demo", timeout=120)
        yield host


@pytest.fixture(scope="session")
def gateway_alone() -> Iterator[GatewayProcess]:
    """One that has no host."""
    with run_gateway("unix:///nowhere/m.sock") as gateway:
        yield gateway


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        yield http
