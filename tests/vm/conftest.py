"""Tests that need a kernel with vsock: run.sh gives them one and says so; else they are not collected."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

if os.environ.get("MLXBRIDGE_VM") != "1":
    collect_ignore_glob = ["test_*.py"]
elif os.environ.get("MLXBRIDGE_VM_MODE") == "pair":
    collect_ignore_glob = ["test_vsock_transport.py"]
else:
    collect_ignore_glob = ["test_vsock_pair.py"]

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine to its end on asyncio's own loop, then on uvloop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run
