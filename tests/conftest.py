"""What all tests share: the process that they run in, and that their programs inherit from."""

from __future__ import annotations

import gc
import signal

from tests.helpers.scheduling import pytest_xdist_auto_num_workers as pytest_xdist_auto_num_workers
from tests.helpers.scheduling import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler


def pytest_configure() -> None:
    """A shell ignores SIGINT for what it runs in the background, and so would every program that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """All modules are there now, and stay: no collection need look through them again, of which many tests ask for some."""
    gc.collect()
    gc.freeze()
