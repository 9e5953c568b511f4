"""What the operating system refuses is one line: the path, its words, how much is free, what helps, how to go on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_core.storage import ADVICE, naming, storage_error


def test_a_full_disk_says_how_much_is_free_and_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "not" / "made" / "events.jsonl"
    with (
        pytest.raises(OSError, match="No space left") as full,
        naming(path),
        open("/dev/full", "wb", buffering=0) as disk,
    ):
        disk.write(b"x")
    line = str(storage_error(full.value, "go on with: fl-sim resume runs/r"))
    assert line.startswith(f"{path}: No space left on device (")
    assert line.endswith("B free); make room there, then go on with: fl-sim resume runs/r")


@pytest.mark.parametrize("number", sorted(ADVICE), ids=lambda number: errno.errorcode[number])
def test_each_error_is_one_line_with_path_words_and_what_helps(number: int, tmp_path: Path) -> None:
    told = storage_error(OSError(number, os.strerror(number), str(tmp_path)))
    assert isinstance(told, RunFolderError)
    assert "\n" not in str(told)
    for part in (str(tmp_path), os.strerror(number), ADVICE[number], "call the same command again"):
        assert part in str(told)


def test_an_error_without_path_or_number_is_a_line_too() -> None:
    assert str(storage_error(OSError("no usable folder"))).startswith("no usable folder; mend that")
