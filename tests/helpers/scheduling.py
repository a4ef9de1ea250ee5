"""Which worker of pytest-xdist runs which tests, how many workers there are, and where they run."""

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


def settle(config: pytest.Config) -> None:
    """Spare the tests, and what they start, most changes from one thread to another, on Linux.

    MLX's CPU backend has a thread that computes what another hands over, one small operation after the other: each wakes
    it up, and is done before the next is there, 100,000 times a second. A batch process (sched(7)) lets who hands over go
    on for a while, if both run on one core; the same computation then takes half of the processor's time. So each worker
    has a core of its own, but for the one that is more than there are.
    """
    if not hasattr(os, "sched_setscheduler"):
        return
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    worker_input = getattr(config, "workerinput", None)
    cores = sorted(os.sched_getaffinity(0))
    if worker_input is not None and (number := int(worker_input["workerid"].removeprefix("gw"))) < len(cores):
        os.sched_setaffinity(0, {cores[number]})
