"""Which classes are taken for which, after the last round: the table of the report, from the events' counts.

They are of the server's own test set, or of all clients' held-out examples together, which a simulation alone has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fl_server.watch.state import RunState

MOST_MIXED_UP = 3


@dataclass(frozen=True)
class ClassRow:
    """One true class: how often each class was answered, and how often it was the right one."""

    label: str
    counts: tuple[int, ...]
    at: int
    """Place of the class itself among the counts."""

    @property
    def examples(self) -> int:
        """Test examples of this class."""
        return sum(self.counts)

    @property
    def recall(self) -> float | None:
        """Share that was answered right; None without examples."""
        return self.counts[self.at] / self.examples if self.examples else None

    @property
    def shares(self) -> tuple[float, ...]:
        """The counts as shares of the class."""
        return tuple(count / max(self.examples, 1) for count in self.counts)


@dataclass(frozen=True)
class Confusion:
    """All classes, and whose examples they were counted on."""

    rows: tuple[ClassRow, ...]
    pooled: bool
    """Whether on the clients' held-out examples, which a simulation alone sees together."""

    @property
    def mixed_up(self) -> tuple[str, ...]:
        """The commonest mistakes in words, the commonest first; empty where there are none."""
        mistakes = [
            (count, row, self.rows[answered])
            for row in self.rows
            for answered, count in enumerate(row.counts)
            if count and answered != row.at
        ]
        worst = sorted(mistakes, key=lambda mistake: (-mistake[0], mistake[1].at, mistake[2].at))[:MOST_MIXED_UP]
        return tuple(f"{row.label} as {other.label} ({count} of {row.examples})" for count, row, other in worst)


def confusion(state: RunState) -> Confusion | None:
    """The counts of the last round; None for a task without classes, or before the last round."""
    labels = [str(label) for label in state.data.get("labels") or ()]
    own = next((record["confusion"] for _, record in state.evaluations() if record.get("confusion")), None)
    each = [client.evaluated.confusion for client in state.clients.values() if client.evaluated]
    counts = own or _sum([found for found in each if found])
    if not counts or len(labels) != len(counts):
        return None
    rows = (ClassRow(label, tuple(row), at) for at, (label, row) in enumerate(zip(labels, counts, strict=True)))
    return Confusion(tuple(rows), pooled=own is None)


def _sum(tables: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]
