"""The thread with a real folder; a named pipe stands for a disk that does not answer."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxbridge.host.engine.prefixes import disk_thread
from mlxbridge.host.engine.prefixes.disk_thread import DiskThread, Failure, Listing, Read, Result, Use, Write
from mlxbridge.host.engine.prefixes.part_folder import PartFolder
from tests.host.engine.test_part_folder import MODEL, PAGE, name

FORM = bytes(16)
SIZE = 10 * PAGE


@pytest.fixture
def folder(tmp_path: Path) -> PartFolder:
    folder = PartFolder(tmp_path / "prefixes", MODEL, 1 << 30)
    assert folder.take_names() == []
    return folder


@pytest.fixture
def thread(folder: PartFolder) -> Iterator[DiskThread]:
    thread = DiskThread(folder)
    yield thread
    thread.close(10)


def payload(number: int) -> bytes:
    return bytes([number]) * SIZE


def a_write(number: int) -> Write:
    data = payload(number)
    return Write(name(number), FORM, [memoryview(data[:100]), memoryview(data[100:])])


def a_read(number: int, *, form: bytes = FORM, is_wanted: Callable[[], bool] = lambda: True) -> Read:
    return Read(name(number), form, SIZE, is_wanted)


def read_bytes(result: Result) -> bytes | None:
    """What has been read; None if the part could not be had."""
    assert isinstance(result, Read)
    return None if result.payload is None else bytes(result.payload)


def next_result(thread: DiskThread) -> Result:
    thread.wait(10)
    result = thread.take()
    assert result is not None, "nothing came"
    return result


def store(thread: DiskThread, *numbers: int) -> None:
    for number in numbers:
        thread.write(a_write(number))
    for number in numbers:
        result = next_result(thread)
        assert isinstance(result, Write) and result.is_stored and result.name == name(number)


def test_what_is_written_is_read_back(thread: DiskThread) -> None:
    assert thread.take() is None
    store(thread, 1, 2)
    thread.read([a_read(2), a_read(3), a_read(1)])
    for number in (2, 3, 1):
        read = next_result(thread)
        assert isinstance(read, Read) and read.name == name(number) and not read.fault
        assert read_bytes(read) == (payload(number) if number != 3 else None)
        thread.give_back(read)
    assert thread.num_bytes == 2 * (SIZE + PAGE)


def test_damaged_file_is_told_and_deleted(thread: DiskThread, folder: PartFolder) -> None:
    store(thread, 1, 2)
    with folder.path(name(1)).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    thread.read([a_read(1), a_read(2, form=bytes(15) + b"x"), a_read(1), a_read(2)])
    reads = [next_result(thread) for _ in range(4)]
    assert [read.fault for read in reads if isinstance(read, Read)] == [
        "its check sum is wrong",
        "it holds another part, or one of another form",
        "",
        "",
    ]
    assert all(isinstance(read, Read) and read.payload is None for read in reads)
    assert not folder.path(name(1)).exists() and not folder.path(name(2)).exists()
    assert thread.num_bytes == 0


def block_disk(folder: PartFolder) -> Path:
    """Let the reading of part 0 wait until somebody opens the pipe for writing."""
    path = folder.path(name(0))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.mkfifo(path)
    return path


def unblock_disk(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY))


def test_reads_go_before_writes_and_unwanted_ones_are_left_out(
    thread: DiskThread, folder: PartFolder
) -> None:
    store(thread, 1, 2, 3)
    pipe = block_disk(folder)
    thread.read([a_read(0)])
    thread.write(a_write(4))
    wanted = {1, 3}
    thread.read([a_read(number, is_wanted=lambda number=number: number in wanted) for number in (1, 2, 3)])  # type: ignore[misc]
    wanted.remove(1)
    unblock_disk(pipe)
    results = [next_result(thread) for _ in range(3)]
    assert [type(result) for result in results] == [Read, Read, Write]
    assert [result.name for result in results if isinstance(result, Read | Write)] == [
        name(0),
        name(3),
        name(4),
    ]


def test_memory_of_what_nobody_has_taken_is_bounded(
    thread: DiskThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(thread, *range(1, 9))
    monkeypatch.setattr(disk_thread, "MAX_READ_BYTES", 3 * (SIZE + 100))
    thread.read([a_read(number) for number in range(1, 9)])
    thread.write(a_write(20))
    # Reading stands still, and so there is time to write.
    reads = [next_result(thread) for _ in range(4)]
    assert [type(result) for result in reads] == [Read, Read, Read, Write]
    for number in range(4, 9):
        assert thread.take() is None
        read = reads.pop(0)
        assert isinstance(read, Read) and read_bytes(read) == payload(number - 3)
        thread.give_back(read)
        reads = [each for each in reads if isinstance(each, Read)] + [next_result(thread)]
    assert [read_bytes(read) for read in reads] == [payload(number) for number in (6, 7, 8)]


def test_part_larger_than_the_bound_is_read_by_itself(
    thread: DiskThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_thread, "MAX_READ_BYTES", 10)
    store(thread, 1, 2)
    thread.read([a_read(1), a_read(2)])
    for number in (1, 2):
        read = next_result(thread)
        assert isinstance(read, Read) and read_bytes(read) == payload(number)
        assert thread.take() is None
        thread.give_back(read)


def test_use_is_noted_in_the_file(thread: DiskThread, folder: PartFolder) -> None:
    store(thread, 1)
    os.utime(folder.path(name(1)), (5, 5))
    thread.write(Use(name(1)))
    thread.write(Use(name(9)))
    store(thread, 2)
    assert folder.path(name(1)).stat().st_mtime > time.time() - 60


def test_names_are_told_after_some_have_gone(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path / "prefixes", MODEL, 4 * (SIZE + PAGE))
    folder.take_names()
    thread = DiskThread(folder)
    store(thread, 1, 2, 3, 4)
    thread.write(a_write(5))
    listing, write = next_result(thread), next_result(thread)
    assert isinstance(listing, Listing) and sorted(map(str, listing.names)) == sorted(
        str(name(number)) for number in (2, 3, 4)
    )
    assert isinstance(write, Write) and write.is_stored
    thread.close(10)


def test_failing_disk_ends_the_thread_with_a_reason(
    folder: PartFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = DiskThread(folder)
    store(thread, 1)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartFolder, "write", full)
    thread.write(a_write(2))
    thread.read([a_read(1)])
    results = [next_result(thread)]
    while not isinstance(results[-1], Failure):
        results.append(next_result(thread))
    assert "No space left on device" in results[-1].reason
    thread.close(10)
    assert thread.take() is None


def test_closing_writes_what_waits(folder: PartFolder) -> None:
    thread = DiskThread(folder)
    for number in range(20):
        thread.write(a_write(number))
    thread.close(30)
    assert all(folder.path(name(number)).exists() for number in range(20))
    assert "prefixes on disk" not in {each.name for each in threading.enumerate()}


def test_closing_does_not_wait_for_a_disk_that_hangs(folder: PartFolder) -> None:
    thread = DiskThread(folder)
    pipe = block_disk(folder)
    thread.read([a_read(0)])
    while thread._reads:  # until it hangs
        time.sleep(0.001)
    thread.write(a_write(1))
    began = time.monotonic()
    thread.close(0.05)
    assert time.monotonic() - began < 5
    thread.abandon()
    unblock_disk(pipe)
    thread.close(10)
    assert not folder.path(name(1)).exists()
