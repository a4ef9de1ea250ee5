"""Memory that pieces share, one after the other."""

from __future__ import annotations

from mlxbridge.host.models.pieces import SMALL_BYTES, PieceMemory

SIZE = 4 * SMALL_BYTES


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    memory = PieceMemory(SIZE)
    first = memory.allocate(SIZE)
    buffer = first.obj
    del first
    for size in (SIZE, SMALL_BYTES, SIZE):
        again = memory.allocate(size)
        assert again.obj is buffer and len(again) == size
        again[-1] = 1
        del again


def test_memory_that_has_any_view_is_left_alone() -> None:
    memory = PieceMemory(SIZE)
    kept = [memory.allocate(SIZE)[10:20].toreadonly()]
    kept += [memory.allocate(SIZE) for _ in range(20)]
    assert len({id(view.obj) for view in kept}) == len(kept)
    few = len(memory._buffers)
    assert 0 < few < len(kept)
    again = kept[0].obj
    del kept[0]
    assert memory.allocate(SIZE).obj is again


def test_small_and_outsized_pieces_have_memory_of_their_own() -> None:
    memory = PieceMemory(SIZE)
    for size in (1, SMALL_BYTES - 1, SIZE + 1):
        view = memory.allocate(size)
        assert view.obj == bytes(size)
    assert not memory._buffers
