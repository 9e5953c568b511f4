"""Time to the same accuracy, as the asynchronous benchmarks tell it: the moment from which a target is held."""

from __future__ import annotations

import asynchronous_deployed
from asynchronous import ROWS, TimeToAccuracy, figures, planned

from fl_server.plan.checks import check_deployed


def line(*accuracies: float, round_s: float = 10.0) -> TimeToAccuracy:
    return TimeToAccuracy(tuple((number * round_s, accuracy) for number, accuracy in enumerate(accuracies)))


def test_a_target_is_reached_where_the_accuracy_stays_above_it() -> None:
    found = line(0.1, 0.85, 0.7, 0.82, 0.9)
    assert found.reaches(0.8) == 30.0
    assert found.reaches(0.9) == 40.0
    assert found.reaches(0.95) is None
    assert line(0.1, 0.85, 0.7).reaches(0.8) is None


def test_ratios_are_those_of_pairs_with_the_same_seed() -> None:
    lines = {
        ("slow", 1): line(0.1, 0.95, round_s=60.0),
        ("slow", 2): line(0.1, 0.5, 0.95, round_s=60.0),
        ("quick", 1): line(0.1, 0.95, round_s=30.0),
        ("quick", 2): line(0.1, 0.95, round_s=30.0),
    }
    (_, slow), (_, quick) = [row[:3:2] for row in figures(lines, "virtual").rows]
    assert slow == "90 s, 1.0x (1.0-1.0)"
    assert quick == "30 s, 3.0x (2.0-4.0)"


def test_a_ratio_without_every_pair_is_not_given() -> None:
    lines = {("slow", 1): line(0.1, 0.86), ("quick", 1): line(0.1, 0.95)}
    (*_, slow_85, slow_90), (*_, quick_85, quick_90) = figures(lines, "wall").rows
    assert (slow_85, slow_90) == ("10 s, 1.0x", "reached by 0 of 1")
    assert (quick_85, quick_90) == ("10 s, 1.0x", "10 s")


def test_devices_get_the_data_and_the_slowness_that_the_clock_gives_their_clients() -> None:
    configs = [asynchronous_deployed.deployed(planned(row, 1).config) for row in ROWS]
    for config in configs:
        check_deployed(config)
        assert set(config.simulation.clients) < set(asynchronous_deployed.PEOPLE)
        assert config.data.partition.clients == len(asynchronous_deployed.PEOPLE)
