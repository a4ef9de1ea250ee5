"""Memory for pieces of payloads on their way through the front."""

from __future__ import annotations

SMALL_BYTES = 64 * 1024
"""Below this a piece gets memory of its own: that is as cheap."""

_MOST_BUFFERS = 8


class PieceMemory:
    """Buffers that are used again as soon as nobody has a view of them.

    Fresh memory for each piece would be pages that the system has to clear and map, which costs more than the piece's two copies.

    Args:
        size: of the largest piece.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._buffers: list[bytearray] = []

    def allocate(self, size: int) -> memoryview:
        """Writable memory of ``size`` bytes, with whatever lies there."""
        if SMALL_BYTES <= size <= self._size:
            for buffer in self._buffers:
                if _is_free(buffer):
                    return memoryview(buffer)[:size]
            if len(self._buffers) < _MOST_BUFFERS:
                self._buffers.append(bytearray(self._size))
                return memoryview(self._buffers[-1])[:size]
        return memoryview(bytearray(size))


def _is_free(buffer: bytearray) -> bool:
    """Whether there is no view of it: one forbids to change its size."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
