"""The files that describe the service: written whole, and only in place of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import MARK

_FILE_MODE = 0o644


def check_ours(path: Path) -> None:
    """Leave other people's files alone.

    Raises:
        UsageError: there is a file, and ``write_file`` did not write it.
    """
    if os.path.lexists(path) and not is_ours(path):
        raise UsageError(f"{path} is there, and mlxbridge-host did not write it; move it away first")


def is_ours(path: Path) -> bool:
    """Whether a file is there and is of ``write_file``'s."""
    try:
        return MARK.encode() in path.read_bytes()
    except OSError:
        return False


def write_file(path: Path, content: bytes) -> bool:
    """Write one of our files, whole or not at all; whether that changed anything.

    Raises:
        UsageError: there is another's, or the folder cannot be written.
    """
    check_ours(path)
    if path.exists() and path.read_bytes() == content:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                os.fchmod(file.fileno(), _FILE_MODE)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return True


def remove_file(path: Path) -> bool:
    """Remove one of our files; whether there was one.

    Raises:
        UsageError: there is another's.
    """
    check_ours(path)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def make_folder(path: Path, mode: int, user: str | None) -> None:
    """Make a folder that is missing, and give it to the user whom the service runs as."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if user is not None:
        for folder in missing:
            shutil.chown(folder, user)
