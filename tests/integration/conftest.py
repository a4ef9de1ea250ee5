"""One host a transport for the tests that leave it as it was; the others start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from mlxbridge import Client
from tests.integration.hosts import ELSEWHERE, TRANSPORTS, Host, run_host, wait_until_it_answers


@pytest.fixture(scope="session")
def host_over() -> Iterator[Callable[[str], Host]]:
    """Gives the host that is reached over a transport; once it has started it stays, whichever is asked for next."""
    with ExitStack() as running:

        @cache
        def start(transport: str) -> Host:
            if ELSEWHERE:
                host = Host(url=ELSEWHERE)
                wait_until_it_answers(host)
            else:
                host = running.enter_context(run_host(transport))
            with host.client() as client:
                client.load_model("demo", timeout=120)
            return host

        yield start


@pytest.fixture(scope="session", params=TRANSPORTS)
def host(request: pytest.FixtureRequest, host_over: Callable[[str], Host]) -> Host:
    return host_over(request.param)


@pytest.fixture
def client(host: Host) -> Iterator[Client]:
    with host.client(timeout=60) as client:
        yield client
