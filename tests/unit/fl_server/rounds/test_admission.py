"""Whatever is not the answer to its plan, or not fit to be summed, is named and refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_core.config.schema import RoundSection
from fl_core.errors import UpdateRejectedError
from fl_core.types import ClientUpdate, DpTerms, Part, RoundPlan
from fl_server.rounds.admission import check_spending, check_update

MODEL = {"b": np.zeros(2, np.float32), "w": np.zeros((2, 3), np.float32)}
PLAN = RoundPlan("task", "run", 1, "client-17", 0, 1, 5, {}, None)
GOOD = {name: np.ones_like(t) for name, t in MODEL.items()}
LIMITS = RoundSection()


def update(tensors=GOOD, **changes) -> ClientUpdate:
    plain = ClientUpdate("task", "client-17", 0, {"delta": Part(tensors)}, 10, 5)
    return replace(plain, **changes)


def test_a_good_update_passes():
    check_update(update(), PLAN, {"delta": MODEL}, LIMITS)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (update({**GOOD, "w": np.full((2, 3), np.nan, np.float32)}), "NaN"),
        (update({**GOOD, "w": np.full((2, 3), np.inf, np.float32)}), "Inf"),
        (update({**GOOD, "w": np.ones(1, np.float32)}), "shape"),
        (update({**GOOD, "w": np.ones((2, 3), np.float64)}), "dtype"),
        (update({"w": GOOD["w"]}), r"missing \['b'\]"),
        (update({**GOOD, "extra": np.ones(1, np.float32)}), r"not known \['extra'\]"),
        (update({**GOOD, "w": np.full((2, 3), 1e30, np.float32)}), "norm"),
        (update(weight=-5), "weight"),
        (update(weight=0), "weight"),
        (update(weight=10**12), "weight"),
        (update(local_steps=0), "local step"),
        (update(task_id="other"), "answer to task"),
        (update(client_id="client-18"), "answer to task"),
        (update(base_version=3), "answer to task"),
        (update(parts={}), "parts"),
    ],
)
def test_an_unfit_update_is_refused_with_client_and_reason(bad, says):
    with pytest.raises(UpdateRejectedError, match=f"client-17.*{says}"):
        check_update(bad, PLAN, {"delta": MODEL}, LIMITS)


def test_under_dp_only_private_tensors_of_weight_one_are_taken():
    terms = DpTerms(8.0, 1e-5, 1.0, 1.0, 0.5, 2, 10.0)
    plan = replace(PLAN, dp=terms)
    with pytest.raises(UpdateRejectedError, match="DP origin"):
        check_update(update(weight=1), plan, {"delta": MODEL}, LIMITS)
    private = {"delta": Part(GOOD, "dpsgd")}
    with pytest.raises(UpdateRejectedError, match="weight 1 under DP"):
        check_update(update(parts=private, weight=2), plan, {"delta": MODEL}, LIMITS)
    check_update(update(parts=private, weight=1), plan, {"delta": MODEL}, LIMITS)


TERMS = DpTerms(8.0, 1e-5, 1.0, 1.0, 0.5, 2, 10.0)


@pytest.mark.parametrize(("before", "told"), [(2.0, 2.1), (0.0, 0.0), (None, 1.0), (None, None)])
def test_an_epsilon_that_grew_or_was_never_told_passes(before, told):
    check_spending(update(epsilon=told), replace(PLAN, dp=TERMS), before)


@pytest.mark.parametrize("told", [2.0, 1.9, 0.0, None, float("nan")])
def test_an_epsilon_that_did_not_grow_with_a_private_round_is_refused_with_client_and_both_figures(told):
    with pytest.raises(
        UpdateRejectedError, match=r"client-17: expected an epsilon above the 2\.0000 .* got"
    ) as refusal:
        check_spending(update(epsilon=told), replace(PLAN, dp=TERMS), 2.0)
    assert ("none" if told is None else f"{told:.4f}") in str(refusal.value)
    check_spending(update(epsilon=told), PLAN, 2.0)  # without privacy nothing is spent
