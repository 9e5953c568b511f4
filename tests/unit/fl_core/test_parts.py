"""The table of parts: what may leave under DP, with which origin, and in which shapes."""

from __future__ import annotations

import numpy as np
import pytest

from fl_client.trainer.asked import ASKED
from fl_core.errors import PolicyError
from fl_core.parts import (
    ASKED_PARTS,
    BIN_EDGES,
    HISTOGRAM_PART,
    MODEL_PART,
    PARTS,
    RANGES_PART,
    RMS_LOSS_PART,
    expected_tensors,
    kind_of,
    parts_of,
)

ONE = {"a": np.ones(1, np.float32)}


@pytest.mark.parametrize("name", [*PARTS, "control variate of some strategy"])
def test_under_dp_a_part_leaves_with_its_origin_or_not_at_all(name):
    refusal = kind_of(name).refusal_under_dp
    if refusal is None:
        assert parts_of({name: ONE}, private=True)[name].dp_origin != "none"
    else:
        with pytest.raises(PolicyError, match=refusal):
            parts_of({MODEL_PART: ONE, name: ONE}, private=True)
    assert parts_of({name: ONE}, private=False)[name].dp_origin == "none"


def test_losses_and_raw_ranges_never_leave_under_dp():
    assert {name for name, kind in PARTS.items() if kind.refusal_under_dp} == {"mean_loss", "rms_loss", "ranges"}


def test_a_client_can_measure_whatever_a_plan_may_ask_for():
    assert tuple(ASKED) == ASKED_PARTS


def test_shapes_are_those_of_the_table():
    assert {n: t.shape for n, t in expected_tensors(RMS_LOSS_PART).items()} == {"rms": (1,)}
    assert {n: t.shape for n, t in expected_tensors(RANGES_PART, ["1", "5"]).items()} == {"1": (2,), "5": (2,)}
    assert {n: t.shape for n, t in expected_tensors(HISTOGRAM_PART, ["1"]).items()} == {"1": BIN_EDGES.shape}
    with pytest.raises(ValueError, match="strategy"):
        expected_tensors(MODEL_PART)
