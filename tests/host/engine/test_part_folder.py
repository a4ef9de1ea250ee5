"""The folder on a real file system, with real locks, and real ways of failing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxbridge.host.engine.prefixes import part_folder
from mlxbridge.host.engine.prefixes.part_file import Damaged
from mlxbridge.host.engine.prefixes.part_folder import PartFolder, check_private
from mlxbridge.host.engine.prefixes.part_names import PartName
from tests.host.engine.test_part_names import chain

PAGE = 4096
MODEL = "0" * 32


def name(number: int) -> PartName:
    return chain("", [number])[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "prefixes"


@pytest.fixture
def folder(root: Path) -> Iterator[PartFolder]:
    folder = PartFolder(root, MODEL, 16 * PAGE)
    yield folder
    folder.close()


def names_in(root: Path, model: str = MODEL) -> set[str]:
    return {path.name for path in (root / model).iterdir()} if (root / model).exists() else set()


def bytes_in(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in root.glob("*/*"))


def read(folder: PartFolder, part: PartName, num_bytes: int) -> bytes:
    buffer = bytearray(num_bytes)
    folder.read(part, memoryview(buffer))
    return bytes(buffer)


def test_what_is_written_is_read_by_the_next_process(folder: PartFolder, root: Path) -> None:
    assert folder.write(name(1), [b"some", memoryview(b"thing")])
    again = PartFolder(root, MODEL, 16 * PAGE)
    assert again.take_names() == [name(1)] and again.take_names() is None
    assert again.key == folder.key
    assert read(again, name(1), 9) == b"something"
    assert again.num_bytes == PAGE
    with pytest.raises(FileNotFoundError):
        read(again, name(2), 9)


def test_nobody_else_can_read_anything(folder: PartFolder, root: Path) -> None:
    old = os.umask(0)
    try:
        folder.write(name(1), [b"x"])
    finally:
        os.umask(old)
    for path in (root, root / MODEL):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (root / "key", root / "lock", root / MODEL / str(name(1))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(PermissionError, match="one of your own, such as .*/mlxbridge-prefixes"):
        PartFolder(tmp_path, MODEL, PAGE)
    assert list(tmp_path.iterdir()) == []


def test_file_and_another_user_s_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="no folder|File exists"):
        check_private(tmp_path / "file")
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(PermissionError, match="another user's"):
        check_private(tmp_path)


@pytest.mark.parametrize("length", [0, 8, 10])
def test_file_of_another_length_is_damaged(folder: PartFolder, length: int) -> None:
    folder.write(name(1), [b"something"])
    os.truncate(folder.path(name(1)), length)
    with pytest.raises(Damaged, match=f"has {length} bytes, not 9"):
        read(folder, name(1), 9)


def test_bound_is_kept_and_the_least_recently_used_go_first(folder: PartFolder, root: Path) -> None:
    for number in range(16):
        folder.write(name(number), [b"x" * PAGE])
        os.utime(folder.path(name(number)), (number, number))
    assert folder.num_bytes == bytes_in(root) == 16 * PAGE
    folder.touch(name(0))
    assert folder.write(name(16), [b"x"])
    # An eighth goes at once.
    assert names_in(root) == {str(name(number)) for number in (0, *range(3, 17))}
    assert folder.num_bytes == bytes_in(root) == 15 * PAGE
    assert folder.write(name(17), [b"x" * 12 * PAGE])
    assert bytes_in(root) <= 16 * PAGE
    assert not folder.write(name(18), [b"x" * 17 * PAGE])
    assert str(name(17)) in names_in(root)


def test_names_are_told_again_when_some_have_gone(folder: PartFolder) -> None:
    folder.take_names()
    for number in range(16):
        folder.write(name(number), [b"x" * PAGE])
        assert folder.take_names() is None
    folder.write(name(16), [b"x"])
    told = folder.take_names()
    assert told is not None and len(told) == 14 and name(16) not in told


def test_part_is_as_young_as_what_is_below_it(folder: PartFolder, root: Path) -> None:
    """A beginning that many prompts share was written first, and is of no less use than what was written last."""
    stem, left, leaf, right = (*chain("", [1], [2], [3]), chain("", [1], [4])[1])
    old = chain("", [9])[0]
    for when, part in enumerate((stem, left, leaf, old, right)):
        folder.write(part, [b"x" * 3 * PAGE])
        os.utime(folder.path(part), (when, when))
    folder.write(name(5), [b"x" * 2 * PAGE])
    assert names_in(root) == {str(part) for part in (stem, left, old, right, name(5))}
    folder.write(name(6), [b"x" * 6 * PAGE])
    assert names_in(root) == {str(part) for part in (stem, right, name(5), name(6))}


def test_models_share_the_bound_and_see_nothing_of_each_other(folder: PartFolder, root: Path) -> None:
    other = PartFolder(root, "f" * 32, 16 * PAGE)
    assert other.key != folder.key
    for number in range(10):
        folder.write(name(number), [b"x" * PAGE])
        other.write(name(number + 100), [b"x" * PAGE])
        assert bytes_in(root) <= 16 * PAGE
    with pytest.raises(FileNotFoundError):
        read(other, name(9), PAGE)
    assert read(folder, name(9), PAGE) == b"x" * PAGE
    # Long unused, and its folder goes with the last of it.
    for number in range(20, 60):
        folder.write(name(number), [b"x" * PAGE])
    assert not (root / ("f" * 32)).exists()
    assert other.write(name(1), [b"y"]) and read(other, name(1), 1) == b"y"


def test_lower_bound_holds_from_the_next_start_on(folder: PartFolder, root: Path) -> None:
    for number in range(16):
        folder.write(name(number), [b"x" * PAGE])
    again = PartFolder(root, MODEL, 5 * PAGE)
    assert again.num_bytes == bytes_in(root) == 5 * PAGE
    assert len(again.take_names() or []) == 5


def test_what_is_not_ours_is_left_alone(folder: PartFolder, root: Path) -> None:
    (root / "notes").mkdir()
    (root / "notes" / "mine").write_text("x" * 100 * PAGE)
    (root / MODEL).mkdir(exist_ok=True)
    (root / MODEL / "also mine").write_text("y")
    for number in range(40):
        folder.write(name(number), [b"x" * PAGE])
    assert (root / "notes" / "mine").exists() and (root / MODEL / "also mine").exists()


def test_dropped_part_is_not_counted_any_more(folder: PartFolder) -> None:
    folder.write(name(1), [b"x" * PAGE])
    folder.drop(name(1))
    folder.drop(name(1))
    assert folder.num_bytes == 0
    with pytest.raises(FileNotFoundError):
        read(folder, name(1), PAGE)
    folder.touch(name(1))


def test_part_that_is_there_is_not_written_again(folder: PartFolder) -> None:
    folder.write(name(1), [b"first"])
    assert folder.write(name(1), [b"other"])
    assert read(folder, name(1), 5) == b"first"


def test_key_that_is_lost_makes_new_names_and_old_parts_go_with_time(folder: PartFolder, root: Path) -> None:
    folder.write(name(1), [b"x"])
    (root / "key").write_bytes(b"short")
    again = PartFolder(root, MODEL, 16 * PAGE)
    assert again.key != folder.key and len((root / "key").read_bytes()) == 32
    assert again.num_bytes == PAGE


def test_lost_count_is_made_anew(folder: PartFolder, root: Path) -> None:
    for number in range(16):
        folder.write(name(number), [b"x" * PAGE])
    (root / "lock").write_bytes(b"??")
    folder.write(name(99), [b"x" * PAGE])
    assert folder.num_bytes == bytes_in(root) <= 16 * PAGE


def test_lock_that_is_never_given_back_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while it is waited for: see the processes below."""
    PartFolder(root, MODEL, 16 * PAGE).close()
    monkeypatch.setattr(part_folder, "LOCK_PATIENCE_S", 0.05)
    with (root / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="another process has held it") as caught:
            PartFolder(root, MODEL, 16 * PAGE)
        assert caught.value.filename == str(root / "lock")
    PartFolder(root, MODEL, 16 * PAGE).close()


def test_unfinished_file_of_a_dead_process_goes(folder: PartFolder, root: Path) -> None:
    (root / "unfinished").write_bytes(b"x" * PAGE)
    PartFolder(root, MODEL, 16 * PAGE)
    assert not (root / "unfinished").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where we may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip("only root may mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_is_told_and_leaves_nothing_behind(small_disk: Path) -> None:
    folder = PartFolder(small_disk, MODEL, 1 << 30)
    assert folder.write(name(1), [b"x" * 5 * PAGE])
    with pytest.raises(OSError) as caught:
        folder.write(name(2), [b"x" * 100 * PAGE])
    assert caught.value.errno == errno.ENOSPC
    assert not (small_disk / "unfinished").exists() and names_in(small_disk) == {str(name(1))}
    assert read(folder, name(1), 5 * PAGE) == b"x" * 5 * PAGE
    folder.close()


def test_full_device_is_told(folder: PartFolder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real write that fails, for those who cannot mount."""
    real = os.open

    def redirected(path: str | Path, flags: int, *mode: int) -> int:
        return real("/dev/full" if str(path).endswith("unfinished") else path, flags, *mode)

    monkeypatch.setattr(os, "open", redirected)
    with pytest.raises(OSError) as caught:
        folder.write(name(1), [b"x" * 10 * PAGE])
    assert caught.value.errno == errno.ENOSPC
    assert names_in(root) == set()


WRITER = """
import sys
from pathlib import Path
from mlxbridge.host.engine.prefixes.part_folder import PartFolder
from tests.host.engine.test_part_folder import MODEL, PAGE, name
folder = PartFolder(Path(sys.argv[1]), MODEL, int(sys.argv[2]))
print("ready", flush=True)
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    assert folder.write(name(number), [number.to_bytes(4, "little") * (4 * PAGE // 4)])
    print(number, flush=True)
print("done", flush=True)
"""


def start_writer(root: Path, limit: int, first: int, last: int) -> subprocess.Popen[str]:
    arguments = [str(root), str(limit), str(first), str(last)]
    return subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)


def check_all(root: Path, limit: int) -> int:
    """Every file is whole, and all together are within the bound; how many there are."""
    folder = PartFolder(root, MODEL, limit)
    assert bytes_in(root) <= limit
    assert folder.num_bytes == bytes_in(root)
    found = names_in(root)
    numbers = {str(name(number)): number for number in range(1000)}
    for text in found:
        part = PartName.parse(text)
        assert part is not None
        assert read(folder, part, 4 * PAGE) == numbers[text].to_bytes(4, "little") * PAGE
    folder.close()
    return len(found)


def test_processes_that_write_at_once_keep_the_bound_and_do_no_harm(root: Path) -> None:
    limit = 100 * PAGE
    writers = [start_writer(root, limit, first, first + 60) for first in (0, 30, 60)]
    while any(writer.poll() is None for writer in writers):
        assert bytes_in_flight(root) <= limit
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.read().endswith("done\n")
        writer.stdout.close()
    assert check_all(root, limit) >= 20


def bytes_in_flight(root: Path) -> int:
    total = 0
    for path in [*root.glob("*/*"), root / "unfinished"]:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def test_process_that_is_killed_amid_writing_leaves_nothing_but_whole_files(root: Path) -> None:
    for turn in range(8):
        writer = start_writer(root, 200 * PAGE, 100 * turn, 100 * turn + 100)
        assert writer.stdout is not None
        while writer.stdout.readline() != f"{100 * turn + 2 * turn + 1}\n":
            pass
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        check_all(root, 200 * PAGE)
    assert check_all(root, 200 * PAGE) > 30
