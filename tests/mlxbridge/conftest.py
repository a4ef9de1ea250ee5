"""One host with the demo model, for commands that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.hosts import HostProcess, run_host


@pytest.fixture(scope="session")
def host() -> Iterator[HostProcess]:
    with run_host("unix") as running:
        yield running
