"""Charts: axes hold their data, marks carry their figures, names are escaped."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_server.report.charts import (
    HEIGHT,
    TOP,
    WIDTH,
    Bar,
    Style,
    bar_chart,
    column_chart,
    line_chart,
    nice_ticks,
    round_ticks,
    ticks_of,
    time_axis,
)
from fl_server.report.series import Line
from fl_server.watch.words import ABSENT, as_bytes, as_metric, as_percent, as_plain, as_seconds

VALUES = st.floats(-1e6, 1e6, allow_nan=False)


@given(low=VALUES, width=st.floats(0, 1e6))
def test_ticks_hold_the_data_and_are_few(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_no_axis_of_an_accuracy_goes_beyond_one(values: list[float]) -> None:
    assert nice_ticks(min(values), max(values), top=1.0)[-1] <= 1.0


@given(first=st.integers(0, 5), rounds=st.integers(0, 3000))
def test_round_ticks_are_whole_rounds_of_the_run(first: int, rounds: int) -> None:
    ticks = round_ticks(first, first + rounds)
    assert 1 <= len(ticks) <= 10
    assert all(first <= tick <= first + rounds for tick in ticks)


@given(values=st.lists(VALUES, min_size=1, max_size=50))
def test_a_line_stays_inside_its_chart(values: list[float]) -> None:
    line = Line("a", tuple(enumerate(values)))
    svg = ET.fromstring(line_chart("t", [(line, Style("s1"))], as_plain))
    (polyline,) = svg.iter("polyline")
    for point in polyline.attrib["points"].split():
        x, y = map(float, point.split(","))
        assert -0.1 <= x <= WIDTH + 0.1
        assert -0.1 <= y <= HEIGHT + 0.1


def test_every_mark_carries_its_figure() -> None:
    line = Line("float", ((1, 0.5), (2, 0.75)))
    text = line_chart("t", [(line, Style("s1"))], as_percent)
    assert "float, round 1: 50.0 %" in text
    assert "float, round 2: 75.0 %" in text


@pytest.mark.parametrize("chart", [bar_chart, column_chart])
def test_names_are_escaped(chart: object) -> None:
    text = chart("a & b", [Bar("<b>", 0.5, note="worst")], as_percent)  # type: ignore[operator]
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_columns_of_negative_scores_hang_from_zero() -> None:
    svg = ET.fromstring(column_chart("t", [Bar("bad", -4.0), Bar("good", -1.0)], as_plain))
    bad, good = (float(rect.attrib["height"]) for rect in svg.iter("rect"))
    assert bad == pytest.approx(4 * good, rel=0.02)
    tops = [float(rect.attrib["y"]) for rect in svg.iter("rect")]
    assert tops == [pytest.approx(TOP), pytest.approx(TOP)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (14_130, "14.1 kB"), (999_900, "1 MB"), (2.5e9, "2.5 GB")],
)
def test_bytes_have_three_digits_and_a_unit(value: float, shown: str) -> None:
    assert as_bytes(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.42, "0.4 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min"), (None, ABSENT)]
)
def test_seconds_read_like_a_clock(value: float | None, shown: str) -> None:
    assert as_seconds(value) == shown


def test_only_accuracy_is_a_percentage() -> None:
    assert as_metric("accuracy")(0.5) == "50.0 %"
    assert as_metric("negative mean squared error")(-0.51234) == "-0.5123"


@pytest.mark.parametrize(
    ("last_s", "name", "at"),
    [
        (480.0, "seconds of virtual time", "480 s"),
        (900.0, "minutes of virtual time", "15 min"),
        (90_000.0, "hours of virtual time", "25 h"),
    ],
)
def test_time_is_shown_in_a_unit_of_its_length(last_s: float, name: str, at: str) -> None:
    axis = time_axis("virtual", last_s)
    text = line_chart("t", [(Line("float", ((0.0, 0.1), (last_s, 0.5))), Style("s1"))], as_percent, axis=axis)
    assert f">{name}<" in text
    assert f"float, {at}: 50.0 %" in text
    ticks = ticks_of(axis, 0.0, last_s)
    assert 2 <= len(ticks) <= 8
    assert all(0 <= tick <= last_s for tick in ticks)
