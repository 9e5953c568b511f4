"""Ledgers for tests: terms that fit five rounds, and every opened file closed again."""

from __future__ import annotations

from pathlib import Path

from fl_core.privacy.accountant import noise_multiplier
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_head import HeadFile
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms

DELTA = 1e-5
ROUNDS = 5
NOISE = noise_multiplier(4.0, DELTA, 0.1, ROUNDS * 10)
TERMS = DpTerms(
    epsilon=4.0, delta=DELTA, clip_norm=1.0, noise_multiplier=NOISE, sample_rate=0.1, steps=10, normaliser=20.0
)
POLICY = DevicePolicy(epsilon_cap=8.0, delta=DELTA, max_clip_norm=1.0, min_noise_multiplier=0.5, max_sample_rate=0.5)
_OPEN: list[Ledger] = []


def opened(path: Path, *, simulated: bool = False, heads: HeadFile | None = None) -> Ledger:
    """A ledger that ``close_all`` closes."""
    _OPEN.append(Ledger(path, simulated=simulated, heads=heads))
    return _OPEN[-1]


def close_all() -> None:
    """Close what ``opened`` opened."""
    while _OPEN:
        _OPEN.pop().close()


def run_round(ledger: Ledger, number: int, dataset_id: str = "data") -> None:
    ledger.reserve(dataset_id, f"task {number}", TERMS, POLICY)
    ledger.settle(dataset_id, f"task {number}", f"reply {number}".encode(), f"state {number}".encode())
