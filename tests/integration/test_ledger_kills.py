"""A ledger whose writer is killed at random moments loses nothing that was acknowledged and never counts too little."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "ledger_kills.py"
    spec = importlib.util.spec_from_file_location("ledger_kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ledger_kills"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_never_under_count(benchmark: ModuleType, tmp_path: Path, kills: int) -> None:
    report = benchmark.kill_ledger_writers(tmp_path / "ledger.db", kills, seed=kills)
    assert (report.lost, report.under_counted, report.broken_chains) == (0, 0, 0)
    assert report.over_counted <= kills
    assert report.acknowledged > kills
