"""What counts as spent by a client whose update was not summed: the truth where it is known, else what can be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fl_core.types import DpTerms, RoundPlan
from fl_server.rounds.spending import spent_unsummed

TERMS = DpTerms(
    epsilon=8.0, delta=1e-5, clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, steps=1, normaliser=1.0,
    accountant="rdp",
)  # fmt: skip
PLAN = RoundPlan("task", "toy", 1, "client-0", 0, 1, 3, {}, TERMS)


class Known:
    def __init__(self, spent: float | None) -> None:
        self._spent = spent

    def spent(self, plan: RoundPlan) -> float | None:
        return self._spent

    def most(self) -> float | None:
        return self._spent


@pytest.mark.parametrize(
    ("claim", "before", "counts"),
    [(3.0, None, 3.0), (9.0, 2.0, 9.0), (1e9, None, 8.0), (1e9, 2.0, 10.0), (math.inf, None, 8.0), (-1.0, 2.0, None),
     (math.nan, 2.0, None), (None, 2.0, None)],
)  # fmt: skip
def test_a_claim_counts_up_to_what_a_ledger_would_have_granted(claim, before, counts):
    assert spent_unsummed(PLAN, claim, before, None) == counts


def test_a_ledger_that_can_be_looked_up_is_believed_and_no_claim():
    assert spent_unsummed(PLAN, 1.0, None, Known(4.0)) == 4.0
    assert spent_unsummed(PLAN, 1.0, None, Known(None)) is None


def test_a_task_without_privacy_spends_nothing():
    assert spent_unsummed(replace(PLAN, dp=None), 1.0, None, Known(4.0)) is None
