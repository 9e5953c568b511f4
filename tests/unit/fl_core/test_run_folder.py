"""A run folder is one process's, by whatever way it is reached, and is replaced as a whole."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_core.run_folder import (
    begin_run_folder,
    overwriting_was_interrupted,
    refuse_at_work,
    run_is_locked,
    run_lock,
)
from support.disks import files_of_at_most


def check_refused(folder: Path) -> None:
    refusal = pytest.raises(RunFolderError, match=rf"^{re.escape(str(folder))}: another process .* is at work on it")
    with refusal, run_lock(folder, wait_s=0.0):
        pass


def test_the_lock_outlives_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    with run_lock(folder):
        folder.mkdir()
        shutil.rmtree(folder)
        check_refused(folder)
    with run_lock(folder):
        pass


def test_a_run_is_the_same_by_link_by_relative_path_and_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, link = tmp_path / "toy", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    monkeypatch.chdir(folder)
    with run_lock(folder):
        for way in (link, Path(), Path("../toy"), Path("../link/../toy")):
            check_refused(way)


def test_asking_takes_nothing_and_makes_nothing(tmp_path: Path) -> None:
    refuse_at_work(tmp_path / "toy")
    assert not list(tmp_path.iterdir())
    with run_lock(tmp_path / "toy"):
        with pytest.raises(RunFolderError, match="is at work on it"):
            refuse_at_work(tmp_path / "toy")
        assert run_is_locked(tmp_path / "toy")


@pytest.mark.parametrize("left_over", [(), ("old",), ("new",), ("old", "deleted"), ("deleted", "new")])
def test_whatever_a_kill_left_the_next_run_begins_with_its_own_files_alone(
    left_over: tuple[str, ...], tmp_path: Path
) -> None:
    places = {"old": tmp_path / "toy", "new": tmp_path / ".toy.new", "deleted": tmp_path / ".toy.deleted"}
    for name in left_over:
        places[name].mkdir()
        (places[name] / "checkpoint").write_text("old")
    assert overwriting_was_interrupted(tmp_path / "toy") == ("deleted" in left_over and "old" not in left_over)
    begin_run_folder(tmp_path / "toy", {"config.yaml": b"a", "companion/c/config.yaml": b"b"})
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"toy/config.yaml": b"a", "toy/companion/c/config.yaml": b"b"}


def test_a_run_that_the_disk_does_not_let_begin_leaves_no_half_of_one(tmp_path: Path) -> None:
    with files_of_at_most(10), pytest.raises(OSError, match="File too large"):
        begin_run_folder(tmp_path / "toy", {"small": b"a", "config.yaml": b"large" * 10})
    assert not list(tmp_path.iterdir())
