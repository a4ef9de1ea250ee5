"""Texts that commands read, from stdin and from files, as UTF-8 wherever they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from mlxbridge.errors import UsageError


@contextmanager
def open_text(path: str) -> Iterator[TextIO]:
    """A file to read; ``-`` is stdin.

    Raises:
        UsageError: stdin is closed, or, in the block, what is read is no UTF-8.
        OSError: it cannot be read.
    """
    is_stdin = path == "-"
    if is_stdin and sys.stdin is None:
        raise UsageError("-: stdin is closed")
    try:
        source = os.dup(sys.stdin.fileno()) if is_stdin else path
        with open(source, encoding="utf-8") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UsageError(f"{'stdin' if is_stdin else path} is no UTF-8 ({error.reason})") from error


def read_text(path: str) -> str:
    """All of a file; ``-`` is stdin. Raises as ``open_text``."""
    with open_text(path) as file:
        return file.read()


def read_lines(path: str) -> Iterator[str]:
    """The lines of a file without what ends them; ``-`` is stdin. Raises as ``open_text``."""
    with open_text(path) as file:
        for line in file:
            yield line.removesuffix("\n")
