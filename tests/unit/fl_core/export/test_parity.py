"""The gate: figures in LSB and agreement, and when it closes."""

from __future__ import annotations

import numpy as np
import pytest
from lowered_zoo import depthwise_net, residual_net

from fl_core.errors import ParityError
from fl_core.export.parity import Parity, ParityLimits, check_parity, measure_parity

SCALE = 0.25
REFERENCE = SCALE * np.random.default_rng(0).permuted(np.tile(np.arange(10.0), (400, 1)), axis=1).astype(np.float32)
LIMITS = ParityLimits(0.99, 1)


def with_top_swapped(examples: int) -> np.ndarray:
    """The reference with its two largest outputs, 1 LSB apart, exchanged in the first examples."""
    got = REFERENCE.copy()
    order = got[:examples].argsort(axis=1)
    rows = np.arange(examples)
    got[rows, order[:, -1]], got[rows, order[:, -2]] = 8 * SCALE, 9 * SCALE
    return got


def test_equal_outputs_are_exact() -> None:
    assert check_parity(REFERENCE, REFERENCE, SCALE, ParityLimits(1.0, 0)) == Parity(400, 1.0, 0, 1.0, 0.0)


def test_figures_of_one_difference() -> None:
    got = REFERENCE.copy()
    got[3, REFERENCE[3].argmin()] -= 2 * SCALE
    assert measure_parity(REFERENCE, got, SCALE, classes=True) == Parity(400, 1.0, 2, 1 - 1 / 4000, 2 * SCALE)
    with pytest.raises(ParityError, match="at most 1 LSB, got 2"):
        check_parity(REFERENCE, got, SCALE, LIMITS)


@pytest.mark.parametrize(("changed", "passes"), [(4, True), (5, False)])
def test_agreement_below_99_percent_is_refused(changed: int, passes: bool) -> None:
    got = with_top_swapped(changed)
    assert measure_parity(REFERENCE, got, SCALE, classes=True).top1_agreement == 1 - changed / 400
    if passes:
        check_parity(REFERENCE, got, SCALE, LIMITS)
    else:
        with pytest.raises(ParityError, match="top-1 agreement"):
            check_parity(REFERENCE, got, SCALE, LIMITS)


@pytest.mark.parametrize(
    ("examples", "changed", "passes"),
    [
        *((examples, changed, changed == 1) for examples in (20, 99, 100, 199) for changed in (1, 2)),
        (200, 2, True),
        (200, 3, False),
    ],
)
def test_one_near_tie_may_change_however_few_the_examples(examples: int, changed: int, passes: bool) -> None:
    reference, got = REFERENCE[:examples], with_top_swapped(changed)[:examples]
    if passes:
        check_parity(reference, got, SCALE, LIMITS)
    else:
        with pytest.raises(ParityError, match="top-1 agreement"):
            check_parity(reference, got, SCALE, LIMITS)


def test_outputs_that_are_no_classes_have_no_agreement() -> None:
    got = with_top_swapped(400)
    assert check_parity(REFERENCE, got, SCALE, ParityLimits(None, 1)).top1_agreement is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    got = REFERENCE.copy()
    got[0, 0] = bad
    with pytest.raises(ParityError, match="from the artefact"):
        check_parity(REFERENCE, got, SCALE, LIMITS)
    with pytest.raises(ParityError, match="from the reference"):
        check_parity(got, REFERENCE, SCALE, LIMITS)


@pytest.mark.parametrize("got", [REFERENCE[:-1], REFERENCE[:, :-1]])
def test_shapes_must_agree(got: np.ndarray) -> None:
    with pytest.raises(ParityError, match="expected outputs of shape"):
        check_parity(REFERENCE, got, SCALE, LIMITS)
    with pytest.raises(ParityError, match="expected outputs of shape"):
        check_parity(REFERENCE[:0], REFERENCE[:0], SCALE, LIMITS)


def test_the_bound_grows_with_depth_and_is_1_for_small_nets() -> None:
    net = residual_net("symmetric")
    assert ParityLimits.for_model(net, classes=True) == ParityLimits(0.99, 1)
    assert ParityLimits.for_model(depthwise_net("symmetric"), classes=False) == ParityLimits(None, 1)
    bounds = [
        ParityLimits.for_model(type(net)(net.nodes[:1] * layers, {}, "", "", ()), classes=True).max_lsb
        for layers in (1, 6, 7, 14, 15, 50)
    ]
    assert bounds == [1, 1, 2, 2, 3, 7]
