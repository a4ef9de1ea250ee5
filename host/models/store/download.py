"""Downloads from the Hugging Face hub that go on where they stopped, whatever stopped them.

huggingface_hub writes each file under a name of its own and deletes it if the download ends early, so that a process that
is killed begins again with shards of many gigabytes. Hence large files are fetched here, by its own HTTP code with its
retries, but into a file that the next attempt finds; then it makes a snapshot of what is in its cache, and fetches the
small ones. For the same reason the plain way is taken and not Xet's, but for files that are too large for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed

Progress = Callable[[int, int], object]
"""Takes the bytes that are here, and those that there are."""

_THREADS = 4
_PARTIAL = ".mlxbridge.incomplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A large file of a repository, which the hub names by the digest of what is in it."""

    url: str
    sha256: str
    num_bytes: int


def download(hub_id: str, patterns: Sequence[str], progress: Progress) -> Path:
    """The folder of a model's newest version in the hub's cache, whole.

    Args:
        hub_id: ``org/name``.
        patterns: of the files that are wanted.
        progress: see ``hub.fetch``.

    Raises:
        ModelLoadFailed: a file came damaged.
        Exception: what huggingface_hub and its HTTP library raise, see ``refusals.explain``.
    """
    from huggingface_hub import constants, hf_hub_url, snapshot_download
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import disable_progress_bars, filter_repo_objects  # type: ignore[attr-defined]

    disable_progress_bars()
    info = _look_up(hub_id)
    files = list(
        filter_repo_objects(info.siblings, allow_patterns=list(patterns), key=lambda file: file.rfilename)
    )
    large = [
        _File(
            url=hf_hub_url(hub_id, file.rfilename, revision=info.sha),
            sha256=file.lfs.sha256,
            num_bytes=file.lfs.size,
        )
        for file in files
        if file.lfs is not None and file.lfs.size <= constants.MAX_HTTP_DOWNLOAD_SIZE
    ]
    count = _Count(sum(file.size or 0 for file in files), progress)
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=hub_id, repo_type="model"), "blobs")
    blobs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            list(threads.map(lambda file: _fetch(file, blobs / file.sha256, count), large))
        except BaseException:  # Ctrl-C too: nobody waits for the other files
            count.stop()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    folder = Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    count.finish()
    return folder


def _look_up(hub_id: str) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return HfApi().model_info(hub_id, files_metadata=True)
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as exc:
        raise LocalEntryNotFoundError(str(exc)) from exc


def _fetch(file: _File, blob: Path, count: _Count) -> None:
    """Have one large file in the cache. Who else downloads it, in whatever process, is waited for."""
    partial = blob.with_name(blob.name + _PARTIAL)
    while not blob.exists():
        with _PartialFile(partial, lambda num_bytes: count.note(file, num_bytes)) as out:
            if not out.lock():
                continue  # whoever had the lock has finished it
            if (begun := out.seek(0, io.SEEK_END)) > file.num_bytes:
                begun = out.truncate(0)
            count.note(file, begun)
            _receive(file, out)
            out.flush()
            # Only what another process began can be of something else, or have a hole where a machine went down.
            if begun and _digest(partial) != file.sha256:
                partial.unlink()
                raise ModelLoadFailed(f"{file.url} came damaged and was deleted; try again")
            partial.replace(blob)
    count.note(file, file.num_bytes)


def _receive(file: _File, out: _PartialFile) -> None:
    """Append what is missing; a connection that breaks is taken up as long as each one brings something."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    while (begun := out.seek(0, io.SEEK_END)) < file.num_bytes:
        try:
            http_get(
                file.url, out, resume_size=begun, headers=build_hf_headers(), expected_size=file.num_bytes
            )
        except Exception:
            if out.seek(0, io.SEEK_END) <= begun:
                raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _PartialFile(io.BufferedWriter):
    """A file that tells how much is in it whenever something is written."""

    def __init__(self, path: Path, tell: Callable[[int], object]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._path = path
        self._tell_size = tell

    def lock(self) -> bool:
        """Wait until nobody else writes; whether the file still has its name then."""
        fcntl.flock(self, fcntl.LOCK_EX)
        try:
            return os.path.samestat(os.fstat(self.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def write(self, data: Any, /) -> int:
        num_bytes = super().write(data)
        self._tell_size(self.tell())
        return num_bytes


class _Stopped(BaseException):
    """Ends a thread whose file nobody wants any more; no error that anything is done about."""


class _Count:
    """Adds up what the threads have."""

    def __init__(self, total_bytes: int, progress: Progress) -> None:
        self._total_bytes = total_bytes
        self._progress = progress
        self._bytes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_stopped = False
        progress(0, total_bytes)

    def note(self, file: _File, num_bytes: int) -> None:
        """So much of a file is here.

        Raises:
            _Stopped: and no more of it is wanted.
        """
        with self._lock:
            if self._is_stopped:
                raise _Stopped
            self._bytes[file.sha256] = num_bytes
            self._progress(sum(self._bytes.values()), self._total_bytes)

    def stop(self) -> None:
        """Have every thread end that notes something."""
        with self._lock:
            self._is_stopped = True

    def finish(self) -> None:
        """All is here, the small files among it."""
        with self._lock:
            self._progress(self._total_bytes, self._total_bytes)
