"""A curve is of one form, that of most rounds; best and median stand beside the last."""

from __future__ import annotations

import pytest

from fl_server.watch.curve import form_of_most, learning_curve, sampling_error
from fl_server.watch.state import RunState
from support.learning_run import run_with


def test_an_artefact_of_the_last_round_alone_does_not_make_a_curve_of_one_point():
    curve = learning_curve(run_with([0.5, 0.7, 0.8], last={"accuracy_int8": 0.79}))
    assert (curve.form, curve.points) == ("accuracy_fake_quant", ((1, 0.5), (2, 0.7), (3, 0.8)))


def test_of_forms_that_all_rounds_have_the_one_nearest_to_a_device_counts():
    every = {"accuracy_float": 0.5, "accuracy_fake_quant": 0.5, "accuracy_int8": 0.5}
    assert form_of_most([every, every]) == "accuracy_int8"
    assert form_of_most([every, {**every, "accuracy_int8": None}]) == "accuracy_fake_quant"
    assert form_of_most([{"accuracy_float": 0.5}]) == "accuracy_float"
    assert form_of_most([]) is None


def test_best_is_the_first_of_equal_rounds_and_the_median_is_that_of_the_last_five():
    curve = learning_curve(run_with([0.9, 0.2, 0.5, 0.9, 0.4, 0.6, 0.7]))
    assert curve.best == (1, 0.9)
    assert (len(curve.newest), curve.median_last, curve.last) == (5, 0.6, 0.7)


def test_nothing_measured_is_no_curve():
    assert learning_curve(RunState()) is None


def test_the_sampling_error_is_that_of_a_binomial_share():
    assert sampling_error(0.5, 100) == pytest.approx(0.05)
    assert sampling_error(1.0, 100) == sampling_error(0.5, 0) == 0.0
