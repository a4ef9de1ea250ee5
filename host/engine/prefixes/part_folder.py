"""A folder of parts of prompts, bounded in bytes; several models, and several processes, may share one.

    key                     32 random bytes, without which names cannot be made
    lock                    held by who changes anything; holds the bytes of all parts
    unfinished              what is being written, before it gets its name
    MODEL/PARENT-DIGEST-N   a part

Whoever writes or deletes holds the lock, so the bound holds for all processes together, and what is unfinished
when somebody gets the lock is a dead process's. Who reads needs no lock: a file comes whole, by its name, and goes whole.
The number in the lock file is never too low: bytes are counted before they are written, and until they are deleted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic, sleep

from mlxbridge.host.engine.prefixes.part_file import Damaged
from mlxbridge.host.engine.prefixes.part_names import PartName

KEY_BYTES = 32
# A model is not loaded any later than this because another process that holds the lock hangs.
LOCK_PATIENCE_S = 15.0
_LOCK_POLL_S = 0.005
# What a file takes is a multiple of this.
_PAGE_BYTES = 4096
# When room is needed, so much of the bound is made at once: each time all names have to be looked through.
_SPARE = 8
_MODEL = re.compile("[0-9a-f]{32}")
_TOTAL = struct.Struct("<Q")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Found:
    path: str
    name: PartName
    num_bytes: int
    used_at: int


def check_private(folder: Path) -> None:
    """Refuse a folder that others may look into.

    Raises:
        OSError: it is another user's, or open to others, or cannot be looked at.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(folder))
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it is another user's", str(folder))
    if status.st_mode & 0o077:
        own = folder / "mlxbridge-prefixes"
        raise PermissionError(
            errno.EPERM, f"other users may enter it; take one of your own, such as {own}", str(folder)
        )


class PartFolder:
    """One model's parts in a shared folder.

    Not thread-safe. Every method may raise OSError.

    Attributes:
        key: of this model, for ``part_names``.
        limit_bytes: what all parts of all models may take.
        num_bytes: what all parts of all models took when this process last held the lock.
    """

    def __init__(self, root: Path, model: str, limit_bytes: int) -> None:
        """Make what is missing, and delete what is too much.

        Args:
            root: the folder; it and what is in it can be read by nobody else.
            model: 32 hex digits for what the parts were made with.
            limit_bytes: what all parts may take.

        Raises:
            OSError: the folder cannot be used, or another process holds its lock for too long.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(root)
        self._root = root
        self._own = root / model
        self.limit_bytes = limit_bytes
        self.num_bytes = 0
        self._names: list[PartName] | None = None
        self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for_lock()
            with self._locked():
                self.key = blake2b(model.encode(), key=self._read_key()).digest()
                self._sweep(limit_bytes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the lock."""
        os.close(self._lock)

    def path(self, name: PartName) -> Path:
        """Where a part's file is."""
        return self._own / str(name)

    def take_names(self) -> list[PartName] | None:
        """This model's parts, if all names have been looked through since this was last asked."""
        names, self._names = self._names, None
        return names

    def read(self, name: PartName, buffer: memoryview) -> None:
        """Read a file that is exactly as long as the buffer.

        Raises:
            FileNotFoundError: it has gone.
            Damaged: it is longer or shorter, or the disk cannot read it.
        """
        with open(os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", 0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != len(buffer):
                raise Damaged(f"it has {size} bytes, not {len(buffer)}")
            done = 0
            while done < size:
                try:
                    count = file.readinto(buffer[done:])
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    raise Damaged("the disk cannot read it") from error
                if not count:
                    raise Damaged("it ends too soon")
                done += count

    def write(self, name: PartName, chunks: Iterable[bytes | memoryview]) -> bool:
        """Store a part, unless it is there; what was not used for longest goes if there is no room.

        Returns:
            Whether it is there now; not if it is larger than all that there may be.
        """
        chunks = list(chunks)
        size = _on_disk(sum(map(len, chunks)))
        if size > self.limit_bytes:
            return False
        with self._locked():
            if self.path(name).exists():
                return True
            if self.num_bytes + size > self.limit_bytes:
                self._sweep(self.limit_bytes - max(size, self.limit_bytes // _SPARE))
            self._count(size)
            self._own.mkdir(mode=0o700, exist_ok=True)
            self._write_file(self.path(name), chunks)
            return True

    def drop(self, name: PartName) -> None:
        """Delete a part, if it is there."""
        with self._locked(), suppress(FileNotFoundError):
            size = _on_disk(self.path(name).stat().st_size)
            self.path(name).unlink()
            self._count(-size)

    def touch(self, name: PartName) -> None:
        """Note that a part, and so all it lies below, is used."""
        with suppress(FileNotFoundError):
            os.utime(self.path(name))

    # ------------------------------------------------------------------------------------------------------------

    def _wait_for_lock(self) -> None:
        """Take the lock, which ``_locked`` then finds to be this process's already; flock itself waits for ever."""
        end = monotonic() + LOCK_PATIENCE_S
        while monotonic() < end:
            with suppress(BlockingIOError):
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sleep(_LOCK_POLL_S)
        reason = f"another process has held it for {LOCK_PATIENCE_S:.0f} s"
        raise TimeoutError(errno.ETIMEDOUT, reason, str(self._root / "lock"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            total = os.pread(self._lock, _TOTAL.size, 0)
            # Too short, when it is new or somebody died: count anew.
            self.num_bytes = _TOTAL.unpack(total)[0] if len(total) == _TOTAL.size else self.limit_bytes
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _count(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        os.pwrite(self._lock, _TOTAL.pack(max(0, self.num_bytes)), 0)

    def _read_key(self) -> bytes:
        path = self._root / "key"
        with suppress(FileNotFoundError):
            key = path.read_bytes()
            if len(key) == KEY_BYTES:
                return key
        key = os.urandom(KEY_BYTES)
        self._write_file(path, [key])
        return key

    def _write_file(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        unfinished = self._root / "unfinished"
        try:
            with open(os.open(unfinished, _NEW_FILE, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                # Not for the name's sake, since a torn file would be found out, but lest memory fills with unwritten pages.
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def _sweep(self, most: int) -> None:
        """Delete until all parts take no more than ``most`` bytes, least recently used first, and count what is left."""
        with suppress(FileNotFoundError):
            (self._root / "unfinished").unlink()
        models = [entry.path for entry in os.scandir(self._root) if _MODEL.fullmatch(entry.name)]
        found = [part for model in models for part in _parts_of(model)]
        found.sort(key=lambda part: part.used_at)
        total = sum(part.num_bytes for part in found)
        num_gone = 0
        while total > max(0, most):
            with suppress(FileNotFoundError):
                os.unlink(found[num_gone].path)
            total -= found[num_gone].num_bytes
            num_gone += 1
        self._count(total - self.num_bytes)
        for model in models:
            with suppress(OSError):  # there is something in it
                os.rmdir(model)
        own = str(self._own)
        self._names = [part.name for part in found[num_gone:] if os.path.dirname(part.path) == own]


def _on_disk(num_bytes: int) -> int:
    return -(-num_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _parts_of(folder: str) -> list[_Found]:
    """A model's parts; each was used when it or anything below it was, and a moment later than that."""
    found: dict[bytes, _Found] = {}
    for entry in os.scandir(folder):
        if (name := PartName.parse(entry.name)) is not None:
            status = entry.stat(follow_symlinks=False)
            found[name.digest] = _Found(entry.path, name, _on_disk(status.st_size), status.st_mtime_ns)
    for part in sorted(found.values(), key=lambda part: part.used_at, reverse=True):
        used_at = part.used_at
        above = found.get(part.name.parent)
        while above is not None and above.used_at <= used_at:
            above.used_at = used_at = used_at + 1
            above = found.get(above.name.parent)
    return list(found.values())
