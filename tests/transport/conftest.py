"""Both event loops, and folders whose paths are short enough for a socket."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine to its end on asyncio's own loop, then on uvloop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a short path: tmp_path alone is too long for a socket on macOS."""
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as name:
        yield Path(name)
