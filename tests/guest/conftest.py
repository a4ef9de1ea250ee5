from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def path() -> Iterator[str]:
    """Where a socket may be: ``tmp_path`` is too long for one on macOS."""
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        yield f"{folder}/s"
