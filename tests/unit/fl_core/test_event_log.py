"""Events on a disk that refuses are all there or none; and none goes into the folder of another run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_core.runlog import Event, EventBatch, RunLog, read_events
from support.disks import files_of_at_most


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    log = RunLog(tmp_path / "toy", "toy")
    log.append("round_started", 1, cohort=[])
    return log


def test_a_batch_that_the_disk_refuses_is_neither_written_nor_told_nor_counted(log: RunLog) -> None:
    told: list[Event] = []
    log.listen(told.append)
    batch = EventBatch()
    for number in range(3):
        batch.append("round_started", 2, cohort=[f"client-{number}" * 10])
    size = (log.folder / "events.jsonl").stat().st_size
    with (
        files_of_at_most(size + 300),
        pytest.raises(OSError, match="File too large") as refused,
    ):  # one of the three would fit
        log.append_all(batch)
    assert refused.value.filename == str(log.folder / "events.jsonl")
    assert told == []
    assert log.seq == 1
    log.append_all(batch)
    assert [event["seq"] for event in read_events(log.folder)] == [1, 2, 3, 4]
    assert [event["seq"] for event in told] == [2, 3, 4]
    log.close()


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder: Path) -> None:
    moved(folder)
    folder.mkdir()
    (folder / "events.jsonl").write_text("")


def a_file_in_its_place(folder: Path) -> None:
    moved(folder)
    folder.write_text("")


@pytest.mark.parametrize("happens", [deleted, moved, replaced, a_file_in_its_place])
def test_a_log_whose_folder_is_no_longer_its_own_writes_nothing_more(
    log: RunLog, happens: Callable[[Path], None]
) -> None:
    happens(log.folder)
    before = {path: path.read_bytes() for path in log.folder.parent.rglob("*") if path.is_file()}
    for write in (lambda: log.append("round_started", 2, cohort=[]), log.sync, log.check_own):
        with pytest.raises(RunFolderError, match="was deleted, moved or replaced"):
            write()
    assert {path: path.read_bytes() for path in log.folder.parent.rglob("*") if path.is_file()} == before
    assert log.seq == 1
    log.close()


def test_a_log_that_is_cut_while_it_is_written_takes_nothing_more(log: RunLog) -> None:
    path = log.folder / "events.jsonl"
    log.append("round_started", 2, cohort=[])
    with path.open("rb+") as file:
        file.truncate(20)
    for write in (lambda: log.append("round_started", 3, cohort=[]), log.sync, log.check_own):
        with pytest.raises(RunFolderError, match=r"events\.jsonl: expected the \d+ bytes that this run wrote, got 20"):
            write()
    assert path.stat().st_size == 20
    log.close()


def test_a_look_at_a_log_that_grows_meanwhile_finds_it_whole(log: RunLog) -> None:
    def write() -> None:
        for number in range(300):
            log.append("round_started", number, cohort=[])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        log.check_own()
    writer.join()
    log.close()
