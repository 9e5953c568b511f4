"""A run whose net does not learn, swings or ends past its best is told so in one line; a good one hears nothing."""

from __future__ import annotations

import pytest

from fl_server.watch.findings import findings
from fl_server.watch.learning import find_how_it_learns
from fl_server.watch.state import RunState
from support.learning_run import run_with

GOOD = {
    "digits, no DP": (
        1000,
        "83.9 92.4 94.3 95.3 95.4 95.3 96.1 96.4 96.8 96.4 96.6 96.7 96.7 96.7 96.8",
    ),
    "smartwatch, no DP": (
        487,
        "58.1 65.7 73.5 68.8 74.5 79.3 72.7 77.2 71.3 74.3 79.5 79.5 77.8 80.7 79.9 81.3 81.9 81.5 81.9 79.9 "
        "81.5 82.3 82.8",
    ),
    "smartwatch, DP": (
        487,
        "48.3 59.8 73.9 78.6 76.8 77.0 78.2 79.9 79.5 79.7 80.3 78.9 80.5 79.5 79.7 79.7 80.3 79.7 80.7 81.3",
    ),
    "digits, asynchronous": (
        1000,
        "10.0 34.9 54.9 63.4 66.0 69.2 77.8 69.0 84.6 81.7 89.9 83.1 80.6 89.5 89.7 87.0 83.9 91.3 91.9 94.7 "
        "93.7 93.4 94.1 94.6 95.0 95.2 95.2 94.8 94.8 93.0 94.5 93.9 94.5 94.7 94.7 94.6",
    ),
    "perfect at once": (
        80,
        "100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0",
    ),
    "few test examples": (
        60,
        "80.0 86.7 80.0 85.0 78.3 85.0 80.0 86.7 80.0 85.0 80.0 86.7",
    ),
    "a slow start": (
        1000,
        "11.0 12.5 14.0 17.0 22.0",
    ),
}
"""Examples of the test set and accuracies in per cent, the first four of real runs."""


def lines(state: RunState) -> list[str]:
    return [str(finding) for finding in find_how_it_learns(state)]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_run_hears_nothing(name):
    examples, curve = GOOD[name]
    assert lines(run_with([float(value) / 100 for value in curve.split()], examples=examples)) == []


def test_a_net_that_is_never_better_than_chance_is_told_so_with_what_helps():
    (line,) = lines(run_with([0.101, 0.098, 0.113, 0.1, 0.104, 0.102]))
    assert line.startswith(
        "not learning: no round was better than chance among 10 classes (10.0 %) beyond the ±1.9 % of 1000 test "
        "examples: last 10.2 %, best 11.3 % (round 3), median of the last 5 10.2 %; usually helps: "
    )
    assert "learning_rate" in line
    assert "input_range" in line


def test_a_net_that_gives_one_answer_to_everything_has_not_learned_though_it_is_above_chance():
    confusion = [[0, 30, 0], [0, 60, 0], [0, 10, 0]]
    start = {"data": {"labels": ["rest", "walk", "run"], "metric": "accuracy"}}
    (line,) = lines(run_with([0.6] * 5, examples=100, start=start, last={"confusion": confusion}))
    assert "no round was better than always answering walk (60.0 %): last 60.0 %" in line


def test_a_net_that_got_worse_than_untrained_is_told_so_after_three_rounds():
    start = {"data": {"labels": ["dark", "bright"], "metric": "accuracy"}, "initial": {"accuracy_fake_quant": 0.54}}
    (line,) = lines(run_with([0.46, 0.46, 0.46], examples=100, start=start))
    assert line.startswith("not learning: no round was better than the untrained model (54.0 %): last 46.0 %")
    assert lines(run_with([0.56, 0.55, 0.58], examples=100, start=start)) == []  # on its way, for all that is known


@pytest.mark.parametrize("errors", [[-283.0] * 5, [-300.5, -299.9, -301.0]])
def test_a_metric_that_is_no_share_is_compared_with_the_untrained_model_and_with_itself(errors):
    metric = {"labels": [], "metric": "negative mean absolute error"}
    start = {"data": metric, "initial": {"accuracy_fake_quant": -299.4}}
    (line,) = lines(run_with(errors, start=start))
    assert line.startswith("not learning: no round was better than ")
    assert lines(run_with([-283.0, -250.0, -251.0], start=start)) == []


def test_a_saw_tooth_until_the_end_is_told_with_best_and_median_beside_the_last():
    curve = [0.5, 0.7, 0.8, 0.86, 0.81, 0.87, 0.82, 0.88, 0.83, 0.87, 0.82, 0.88, 0.82, 0.88]
    (line,) = lines(run_with(curve))
    assert line.startswith(
        "saw-tooth: accuracy fell by 5.0 to 6.0 points in 3 of the last 7 rounds: last 88.0 %, best 88.0 % (round 8), "
        "median of the last 5 87.0 %"
    )
    assert "schedule: cosine" in line
    assert lines(run_with(curve, finished=False)) == []  # a rate that falls may calm it yet


def test_a_run_that_ends_far_below_its_best_is_told_which_round_that_was():
    (line,) = lines(run_with([0.5, 0.7, 0.8, 0.9, 0.92, 0.91, 0.9, 0.7]))
    assert line.startswith("past its best: the last round is 22.0 points below round 5: last 70.0 %, best 92.0 %")


def test_where_clients_lie_no_rate_is_blamed():
    (line,) = lines(run_with([0.1] * 6, start={"attack": {"name": "nan", "clients": ["a"], "args": {}}}))
    assert line.endswith("clients lie in this run, which may be all there is to it")


def test_a_server_whose_clients_keep_their_own_models_is_not_judged_by_its_own():
    assert lines(run_with([0.1] * 6, personal=0.9)) == []


def test_a_run_that_goes_on_is_told_only_after_ten_rounds():
    assert lines(run_with([0.1] * 9, finished=False)) == []
    assert len(lines(run_with([0.1] * 10, finished=False))) == 1


@pytest.mark.parametrize(
    ("plain", "rounded", "examples", "said"),
    [
        (0.463, 0.665, 1000, True),  # a deep net at 2 bits
        (0.10, 0.42, 200, True),
        (0.80, 0.825, 5000, False),  # a gap, but none that matters
        (0.46, 0.56, 60, False),  # within what 60 examples can show
        (0.90, 0.70, 1000, False),  # the other way round: rounding costs something, as it may
    ],
)
def test_weights_that_only_make_sense_rounded_are_named(plain, rounded, examples, said):
    last = {"accuracy_float": plain, "accuracy_fake_quant": rounded, "accuracy_int8": rounded}
    state = run_with([0.3, rounded], examples=examples, last=last)
    told = [str(finding) for finding in findings(state) if finding.topic == "rounding"]
    assert bool(told) is said
    if said:
        assert f"reach {100 * plain:.1f} % in float and {100 * rounded:.1f} % as int8" in told[0]
        assert "only make sense rounded" in told[0]
