"""Tables of figures for people: drawn on a terminal, or as Markdown that can be pasted into a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from fl_server.watch.words import ABSENT
from shared.paired import spread

WIDTH = 170
"""Characters of a drawn table where standard output is no terminal."""


@dataclass(frozen=True)
class Figures:
    """A table as text; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def show(tables: Sequence[Figures], markdown: bool) -> None:
    """Print tables on standard output, without those that have no rows."""
    tables = [table for table in tables if table.rows]
    if markdown:
        print("\n\n".join(as_markdown(table) for table in tables))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for figures in tables:
        notes = "\n".join(figures.notes) or None
        table = Table(title=figures.title, title_justify="left", caption=notes, caption_justify="left")
        for number, column in enumerate(figures.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=not number)
        for row in figures.rows:
            table.add_row(*row)
        console.print(table)


def as_markdown(table: Figures) -> str:
    """The table in GitHub's Markdown, its title above and its notes below."""
    head = [f"**{table.title}**", "", _line(table.columns), _line(["---", *("---:" for _ in table.columns[1:])])]
    return "\n".join([*head, *(_line(row) for row in table.rows), *(f"\n{note}" for note in table.notes)])


def as_points(values: Sequence[float | None], digits: int = 1) -> str:
    """Shares as "94.2 ± 0.6" percent over seeds; a dash where any is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ABSENT
    found = spread(known)
    return f"{100 * found.mean:.{digits}f} ± {100 * found.std:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
