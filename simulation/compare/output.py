"""A comparison as one table (CSV, markdown, JSON, terminal) and one picture of accuracy by round.

All forms have the same rows in the same order. A figure that does not exist is empty. matplotlib is an extra and is
imported inside the function.
"""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from io import BytesIO, StringIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fl_core.errors import ExportError
from fl_core.files import write_atomic, write_json
from simulation.compare.figures import Curve, Heading, Row
from simulation.compare.folder import JSON_TABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#14508c", "#d98a1f", "#1b7f5c", "#7a3d9a", "#b3331f", "#5b616b", "#0f8a9d", "#8a6d00")
PLOT_MARKERS = "osD^vPX*"
HEADS = {
    "strategy": "strategy",
    "seeds": "seeds",
    "accuracy": "accuracy",
    "accuracy_spread": "± over seeds",
    "rounds_to_target": "rounds to target",
    "bytes_to_target": "MB to target",
    "worst_client": "worst client",
    "personal": "own models",
}
"""Column heads for people, by field of a row."""
_HEAD_WIDTH = 8
"""Columns of a terminal that a figure's head has: then all of them and the names fit into 80."""


def write_tables(rows: Sequence[Row], target: float, head: Heading, out: Path) -> Path:
    """Write compare.csv, compare.md and compare.json; gives the path of the last."""
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_atomic(out / "compare.csv", text.getvalue().encode())
    write_atomic(out / "compare.md", markdown(rows, target, head).encode())
    path = out / JSON_TABLE
    write_json(path, {"target": target, **asdict(head), "rows": [asdict(row) for row in rows]})
    return path


def markdown(rows: Sequence[Row], target: float, head: Heading) -> str:
    """The table in markdown."""
    lines = [f"{title_of(target, head)}.", "", f"| {' | '.join(HEADS.values())} |"]
    lines.append(f"|---|{'---:|' * (len(HEADS) - 1)}")
    lines += [f"| {' | '.join(_words(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def title_of(target: float, head: Heading) -> str:
    """What was to be reached, in which form it was measured, and who lied."""
    form = f" ({head.form})" if head.form else ""
    liars = f"; clients that lie: {head.liars}" if head.liars else ""
    return f"Target: {head.metric} {target:.3f}{form}{liars}"


def terminal_table(rows: Sequence[Row], target: float, head: Heading) -> Table:
    """The table for the terminal, without the columns in which no row has a figure; no name is ever cut."""
    table = Table(title=title_of(target, head), title_justify="left")
    columns = zip(HEADS.values(), zip(*map(_words, rows), strict=True), strict=True)
    (name, names), *figures = ((label, cells) for label, cells in columns if any(cells))
    table.add_column(name, overflow="fold", min_width=len(name))
    for label, _ in figures:
        table.add_column("\n".join(textwrap.wrap(label, _HEAD_WIDTH)), justify="right", no_wrap=True)
    for number, strategy in enumerate(names):
        table.add_row(Text(strategy), *(cells[number] for _, cells in figures))
    return table


def draw_curves(curves: Sequence[Curve], target: float, head: Heading, out: Path) -> None:
    """Write a PNG of accuracy by round: the mean over the seeds, with the range of the seeds behind it.

    Raises:
        ExportError: matplotlib is not installed.
    """
    try:
        figure = curve_figure(curves, target, head)
    except ImportError:
        raise ExportError("compare: drawing needs matplotlib: pip install 'stonecrop[sim]'") from None
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(out, picture.getvalue())


def curve_figure(curves: Sequence[Curve], target: float, head: Heading) -> Figure:
    """Accuracy by round; the axis says which form of the model was measured, the title who lied.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, curve in enumerate(curves):
        by_round: dict[int, list[float]] = {}
        for seed in curve.seeds:
            for at, accuracy in seed:
                by_round.setdefault(at, []).append(accuracy)
        rounds = sorted(by_round)
        colour, marker = COLOURS[number % len(COLOURS)], PLOT_MARKERS[number % len(PLOT_MARKERS)]
        means = [fmean(by_round[at]) for at in rounds]
        every = max(1, len(rounds) // 12)
        axes.plot(rounds, means, color=colour, marker=marker, markevery=every, markersize=4, label=curve.strategy)
        low, high = ([pick(by_round[at]) for at in rounds] for pick in (min, max))
        axes.fill_between(rounds, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(target, color="#5b616b", linestyle=":", linewidth=1)
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(f"{head.metric}, {head.form}" if head.form else head.metric)
    axes.set_title(f"clients that lie: {head.liars}" if head.liars else "", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def _words(row: Row) -> list[str]:
    shown = {
        "strategy": row.strategy,
        "seeds": str(row.seeds),
        "accuracy": _share(row.accuracy),
        "accuracy_spread": _share(row.accuracy_spread),
        "rounds_to_target": "" if row.rounds_to_target is None else f"{row.rounds_to_target:.1f}",
        "bytes_to_target": "" if row.bytes_to_target is None else f"{row.bytes_to_target / 1e6:.2f}",
        "worst_client": _share(row.worst_client),
        "personal": _share(row.personal),
    }
    return [shown[name] for name in HEADS]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
