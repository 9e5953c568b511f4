"""A fresh ledger with one data set, and all ledgers closed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_core.privacy.ledger import Ledger
from support.ledgers import close_all, opened


@pytest.fixture(autouse=True)
def close_ledgers() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = opened(tmp_path / "ledger.db")
    made.enrol("data", 5)
    return made
