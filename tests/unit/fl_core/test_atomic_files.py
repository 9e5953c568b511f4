"""A file is the old one or the new one, on a full disk too; a lock says who holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_core.files import folder_is_locked, folder_lock, holder_of, read_json, write_atomic
from fl_core.storage import storage_error
from support.disks import files_of_at_most


def test_a_write_that_the_disk_refuses_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_atomic(path, b"old")
    with files_of_at_most(10), pytest.raises(OSError, match="File too large") as refused:
        write_atomic(path, b"new" * 10)
    assert refused.value.filename == str(path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("model", b"old")]


def test_a_folder_in_a_files_place_is_named_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        write_atomic(path, b"new")
    told = str(storage_error(refused.value))
    assert told.startswith(f"{path}: Is a directory; a folder stands where a file is needed")
    assert "tmp, " not in told
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"", b"[1]", b"[1, 2]", b"null", b"{", b"[" * 100_000, b'{"name": 1}'],
    ids=lambda each: str(each[:9]),
)
def test_a_file_that_holds_something_else_is_one_line_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wanted.json"
    assert read_json(path, "run") is None
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"^{path}: expected ") as damaged:
        read_json(path, "run")
    assert isinstance(damaged.value, ValueError)


def test_a_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    with folder_lock(tmp_path, RunFolderError("taken")):
        assert holder_of(tmp_path / ".lock").startswith(f"{os.getpid()} on ")
        assert folder_is_locked(tmp_path)
        with pytest.raises(RunFolderError, match="taken"), folder_lock(tmp_path, RunFolderError("taken")):
            pass
    assert not folder_is_locked(tmp_path)


def test_a_lock_on_a_full_disk_holds_though_it_names_nobody(tmp_path: Path) -> None:
    with files_of_at_most(0), folder_lock(tmp_path, RunFolderError("taken")):
        assert holder_of(tmp_path / ".lock") == ""
        assert folder_is_locked(tmp_path)
