"""The thread that reads and writes parts of prompts, so that no step waits for the disk.

Only bytes cross: what is to be written has been evaluated before, and whoever asked for a part makes arrays of its
bytes. Reads go before writes, since a prompt waits for them. What has been read and not been taken is bounded here,
what waits to be written by who hands it over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread

from mlxbridge.host.engine.prefixes.part_file import Damaged, file_bytes, seal, unseal
from mlxbridge.host.engine.prefixes.part_folder import PartFolder
from mlxbridge.host.engine.prefixes.part_names import PartName

# Of all buffers together; a part that is larger gets one by itself.
MAX_READ_BYTES = 64 << 20


@dataclass(slots=True, eq=False)
class Read:
    """A part that is wanted.

    Attributes:
        form: digest of what its arrays have to be like.
        num_bytes: of its arrays.
        is_wanted: asked before it is read; if it is not, there will be no result.
        payload: its arrays' bytes, until the buffer is given back; None if it cannot be had.
        fault: what is wrong with the file, which has been deleted; empty if it was not there.
    """

    name: PartName
    form: bytes
    num_bytes: int
    is_wanted: Callable[[], bool]
    payload: memoryview | None = None
    fault: str = ""
    buffer: bytearray | None = None


@dataclass(slots=True, eq=False)
class Write:
    """A part that is to be stored.

    Attributes:
        form: digest of what its arrays are like.
        payload: their bytes.
        is_stored: whether it is there, once it has been tried.
    """

    name: PartName
    form: bytes
    payload: Sequence[memoryview]
    is_stored: bool = False


@dataclass(slots=True, eq=False)
class Use:
    """A part that was used, though not read from the disk; it has no result."""

    name: PartName


@dataclass(slots=True, eq=False)
class Listing:
    """The parts that are there; what was not used for longest has just been deleted."""

    names: list[PartName]


@dataclass(slots=True, eq=False)
class Failure:
    """What ended the thread."""

    reason: str


Result = Read | Write | Listing | Failure


class DiskThread:
    """Owns a folder, and the buffers that are read into.

    Attributes:
        num_bytes: what all parts on disk take.
    """

    def __init__(self, folder: PartFolder) -> None:
        self.num_bytes = folder.num_bytes
        self._folder = folder
        self._condition = Condition()
        self._reads: deque[Read] = deque()
        self._writes: deque[Write | Use] = deque()
        self._results: deque[Result] = deque()
        self._free: list[bytearray] = []
        self._num_lent_bytes = 0
        self._is_closing = False
        self._thread = Thread(target=self._run, name="prefixes on disk", daemon=True)
        self._thread.start()

    def read(self, reads: Sequence[Read]) -> None:
        """Begin to read, in this order."""
        with self._condition:
            self._reads += reads
            self._condition.notify_all()

    def write(self, write: Write | Use) -> None:
        """Begin to write, once nothing is to be read."""
        with self._condition:
            self._writes.append(write)
            self._condition.notify_all()

    def take(self) -> Result | None:
        """The next result, if there is one."""
        with self._condition:
            return self._results.popleft() if self._results else None

    def give_back(self, read: Read) -> None:
        """The payload is not needed any more; what shares its memory must have gone."""
        with self._condition:
            buffer, read.payload, read.buffer = read.buffer, None, None
            if buffer is not None:
                self._num_lent_bytes -= len(buffer)
                self._free.append(buffer)
            if not self._reads and not self._num_lent_bytes:
                self._free.clear()
            self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Until there is a result, but no longer."""
        with self._condition:
            self._condition.wait_for(lambda: self._results, seconds)

    def close(self, seconds: float) -> None:
        """Read nothing more, write what waits, and end; what takes longer is left."""
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()
        self._thread.join(seconds)

    def abandon(self) -> None:
        """Begin nothing more, and wait for nothing."""
        with self._condition:
            self._is_closing = True
            self._writes.clear()
            self._results.clear()
            self._free.clear()
            self._condition.notify_all()

    # -- in the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._do(job)
        except Exception as error:
            self._tell(Failure(str(error) or type(error).__name__))
        finally:
            self._folder.close()

    def _next(self) -> Read | Write | Use | None:
        with self._condition:
            while True:
                while self._reads and not self._reads[0].is_wanted():
                    self._reads.popleft()
                if self._is_closing:
                    self._reads.clear()
                if self._reads and self._has_room(self._reads[0]):
                    read = self._reads.popleft()
                    read.buffer = self._lend(file_bytes(read.num_bytes))
                    return read
                if self._writes:
                    return self._writes.popleft()
                if self._is_closing:
                    return None
                self._condition.wait()

    def _has_room(self, read: Read) -> bool:
        lent = self._num_lent_bytes
        return not lent or lent + file_bytes(read.num_bytes) <= MAX_READ_BYTES

    def _lend(self, size: int) -> bytearray:
        # Fresh memory costs more than the reading of it: each page has to be found and cleared first.
        buffer = next((each for each in self._free if len(each) >= size), None)
        if buffer is None:
            self._free.clear()
            buffer = bytearray(size)
        else:
            self._free.remove(buffer)
        self._num_lent_bytes += len(buffer)
        return buffer

    def _do(self, job: Read | Write | Use) -> None:
        if isinstance(job, Use):
            self._folder.touch(job.name)
            return
        if isinstance(job, Read):
            self._read(job)
        else:
            job.is_stored = self._folder.write(job.name, seal(job.name.digest, job.form, job.payload))
            if (names := self._folder.take_names()) is not None:
                self._tell(Listing(names))
        self.num_bytes = self._folder.num_bytes
        self._tell(job)

    def _read(self, read: Read) -> None:
        assert read.buffer is not None
        view = memoryview(read.buffer)[: file_bytes(read.num_bytes)]
        try:
            self._folder.read(read.name, view)
            read.payload = unseal(view, read.name.digest, read.form)
        except FileNotFoundError:
            pass
        except Damaged as damage:
            read.fault = str(damage)
            self._folder.drop(read.name)

    def _tell(self, result: Result) -> None:
        with self._condition:
            self._results.append(result)
            self._condition.notify_all()
