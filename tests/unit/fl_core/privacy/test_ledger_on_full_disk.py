"""A ledger on a disk that refuses is made whole or not at all, and what it says names the file and not a client."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from fl_core.privacy.ledger import Ledger
from support.disks import files_of_at_most


@pytest.mark.parametrize("limit_bytes", range(0, 65536, 8192))
def test_wherever_the_disk_refuses_a_new_ledger_the_next_one_opens(tmp_path: Path, limit_bytes: int) -> None:
    path = tmp_path / "ledger.sqlite"
    with files_of_at_most(limit_bytes), suppress(OSError):
        Ledger(path).close()
    assert {each.name for each in tmp_path.iterdir()} <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    ledger = Ledger(path)
    assert ledger.enrol("client", 8) == 8
    ledger.verify()
    ledger.close()


def test_an_entry_that_the_disk_refuses_is_an_error_of_the_disk_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.enrol("first", 8)
    with files_of_at_most(0), pytest.raises(OSError, match="disk") as refused:
        ledger.enrol("second", 8)
    assert refused.value.filename == str(path)
    assert [len(ledger.history(name)) for name in ("first", "second")] == [1, 0]
    ledger.enrol("second", 8)
    ledger.close()
