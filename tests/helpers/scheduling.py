"""Which worker of pytest-xdist runs which tests, and how many workers there are."""

from __future__ import annotations

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TOGETHER = (
    "tests/guest/gateway/ollama/",
    "tests/guest/gateway/openai/",
    "tests/guest/gateway/test_",
    "tests/mlxbridge/test_",
)
"""What the paths of files begin with that share a host: in two workers it would be started twice."""


class ByHost(LoadFileScheduling):  # type: ignore[misc]
    """By file, but for files that share a host."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((begin for begin in TOGETHER if file.startswith(begin)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Take the place of ``--dist=loadfile``."""
    return ByHost(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: a quarter of the time they would wait with the tests."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # which is for xdist to read
    return (os.cpu_count() or 1) + 1
