"""Memory for payloads that come in."""

from __future__ import annotations

import mmap

_MAPPED_BYTES = 1024 * 1024


def allocate(size: int) -> bytearray | mmap.mmap:
    """Writable memory of ``size`` bytes; large blocks are fresh pages, which a ``bytearray`` would first fill with zeros."""
    return mmap.mmap(-1, size) if size >= _MAPPED_BYTES else bytearray(size)
