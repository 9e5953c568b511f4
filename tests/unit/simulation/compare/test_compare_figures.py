"""A comparison's curves are of one form for all runs, on whole rounds; who lied stands in table and picture."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fl_server.watch.state import RunState
from simulation.compare.figures import Heading, Row, curves, heading, tabulate
from simulation.compare.output import curve_figure, markdown, terminal_table
from support.learning_run import run_with

EXPORTED_LAST = {"accuracy_int8": 0.79}
LIARS = {"attack": {"name": "sign_flip", "clients": ["a"], "args": {}}, "clients": ["a", "b", "c"]}


def drawn(runs: dict[str, list[RunState]]):
    _, target = tabulate(runs)
    return curve_figure(curves(runs), target, heading(runs)).axes[0]


def test_runs_that_export_at_their_end_alone_are_drawn_over_all_rounds_and_say_in_which_form():
    runs = {
        "fedavg": [run_with([0.5, 0.7, 0.8], last=EXPORTED_LAST)],
        "median": [run_with([0.4, 0.6, 0.7], last={"accuracy_int8": 0.7})],
    }
    axes = drawn(runs)
    assert [list(line.get_xdata()) for line in axes.get_lines()[:2]] == [[1, 2, 3], [1, 2, 3]]
    assert axes.get_ylabel() == "accuracy, fake-quant"
    rows, target = tabulate(runs)
    assert target == pytest.approx(0.95 * 0.8)
    assert [(row.strategy, row.accuracy, row.rounds_to_target) for row in rows] == [
        ("fedavg", 0.79, 3.0),  # the artefact's, as everywhere
        ("median", 0.7, None),
    ]


def test_a_veto_in_one_run_does_not_mix_forms_in_the_picture():
    whole = run_with([0.5, 0.7], last={"accuracy_int8": 0.69})
    assert [len(curve.seeds[0]) for curve in curves({"a": [whole], "b": [run_with([0.5, 0.7])]})] == [2, 2]


@pytest.mark.parametrize("rounds", [1, 2, 3, 30])
def test_rounds_are_whole_on_the_axis(rounds):
    axes = drawn({"fedavg": [run_with([0.5] * rounds)]})
    ticks = list(axes.get_xticks())
    assert ticks
    assert all(tick == round(tick) for tick in ticks)


def test_a_metric_below_zero_has_a_target_that_can_be_reached():
    start = {"data": {"labels": [], "metric": "negative mean absolute error"}}
    rows, target = tabulate({"fedavg": [run_with([-9.0, -4.2, -4.0], start=start)]})
    assert target == pytest.approx(-4.0 / 0.95)
    assert rows[0].rounds_to_target == 2.0


def test_a_comparison_under_attack_says_so_in_table_and_picture():
    runs = {"median": [run_with([0.4, 0.6], start=LIARS)]}
    rows, target = tabulate(runs)
    assert "clients that lie: 1 of 3 (sign_flip)" in markdown(rows, target, heading(runs))
    assert drawn(runs).get_title() == "clients that lie: 1 of 3 (sign_flip)"
    honest = {"median": [run_with([0.4, 0.6])]}
    assert "that lie" not in markdown(*tabulate(honest), heading(honest)) + drawn(honest).get_title()


def test_the_terminal_cuts_no_name_and_no_head_and_shows_no_empty_column():
    names = ["fedavg", "my_strategy:Calming", "my_strategy:Calming(decay=0.5,when=[late])"]
    runs = {name: [run_with([0.4, 0.6])] for name in names}
    rows, target = tabulate(runs)
    screen = io.StringIO()
    Console(file=screen, width=80).print(terminal_table(rows, target, heading(runs)))
    lines = screen.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in screen.getvalue()
    assert not any(head in screen.getvalue() for head in ("own", "worst", "±"))
    first = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert first == "".join(row.strategy for row in rows)


def test_a_table_with_every_figure_fits_into_80_columns():
    row = Row("my_strategy:Calming(decay=0.5)", 10, 0.912, 0.0123, 123.4, 1.2e9, 0.8, 0.9)
    screen = io.StringIO()
    Console(file=screen, width=80).print(terminal_table([row], 0.9, Heading("accuracy", "", "")))
    assert "…" not in screen.getvalue()
    assert all(word in screen.getvalue() for word in ("strategy", "accuracy", "own", "models", "1200.00", "123.4"))
