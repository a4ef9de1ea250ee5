from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import MARK
from mlxbridge.host.service.files import is_ours, make_folder, remove_file, write_file

OURS = f"# {MARK}\n".encode()


def test_file_is_written_whole_and_says_whether_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "units" / "a.service"
    assert write_file(file, OURS)
    assert not write_file(file, OURS)
    assert write_file(file, OURS + b"more")
    assert file.read_bytes() == OURS + b"more"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["a.service"]


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_what_is_not_ours_is_neither_replaced_nor_removed(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.service"
    if kind == "file":
        file.write_text("[Unit]\n")
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="move it away first"):
        write_file(file, OURS)
    with pytest.raises(UsageError, match="move it away first"):
        remove_file(file)
    assert os.path.lexists(file)
    assert not is_ours(file)


def test_removing_says_whether_there_was_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.service"
    assert not remove_file(file)
    write_file(file, OURS)
    assert remove_file(file)
    assert not file.exists()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "units").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot write .*/units/a\.service: "):
        write_file(tmp_path / "units" / "a.service", OURS)


def test_folders_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "run", 0o700, None)
    make_folder(tmp_path, 0o700, None)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
