"""What a simulation alone knows of each client, drawn: its accuracy, worst first, and how much it trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from fl_server.report.charts import Bar, Formatter, bar_chart, column_chart
from fl_server.watch.records import ClientAccuracy
from fl_server.watch.state import RunState

MOST_BARS = 24  # clients; a crowd is drawn as columns


@dataclass(frozen=True)
class ClientSize:
    """How much one client trains on, and whether it lies."""

    client_id: str
    examples: int
    lies: bool


def client_sizes(state: RunState) -> tuple[ClientSize, ...]:
    """Training examples of every client that has trained, the largest first; empty on boards, where nobody knows."""
    liars = set(state.attack["clients"]) if state.attack else set()
    known = [
        ClientSize(name, client.examples, name in liars)
        for name, client in state.clients.items()
        if client.examples is not None
    ]
    return tuple(sorted(known, key=lambda size: (-size.examples, size.client_id)))


def sizes_words(sizes: Sequence[ClientSize]) -> str:
    """From the smallest to the largest, and all together; empty without any."""
    if not sizes:
        return ""
    counts = [size.examples for size in sizes]
    smallest, largest = sizes[-1], sizes[0]
    if smallest.examples == largest.examples:
        return f"{largest.examples} each, {sum(counts)} together."
    return (
        f"{smallest.examples} ({smallest.client_id}) to {largest.examples} ({largest.client_id}), median "
        f"{median(counts):g}, {sum(counts)} together."
    )


def client_sizes_figure(sizes: Sequence[ClientSize]) -> Markup | None:
    """Training examples of every client; None where nobody knows."""
    bars = [
        Bar(size.client_id, size.examples, "s6" if size.lies else "s3", "lies" if size.lies else "") for size in sizes
    ]
    return _bars("Training examples of each client", bars, lambda value: f"{value:g}", None) if bars else None


def clients_figure(clients: Sequence[ClientAccuracy], show: Formatter, metric: str) -> Markup | None:
    """Accuracy of every client on its own held-out examples, worst first and named; None where nobody measured."""
    if not clients:
        return None
    bars = [
        Bar(row.client_id, row.accuracy or 0.0, "s6" if number == 0 else "s3", "worst" if number == 0 else "")
        for number, row in enumerate(clients)
    ]
    if len(clients) == 1:
        bars = [Bar(bars[0].label, bars[0].value, "s3")]
    title = f"{metric.capitalize()} on each client's own held-out examples"
    return _bars(title, bars, show, 1.0 if metric == "accuracy" else None)


def _bars(title: str, bars: Sequence[Bar], show: Formatter, top: float | None) -> Markup:
    as_bars = len(bars) <= MOST_BARS and min(bar.value for bar in bars) >= 0
    return bar_chart(title, bars, show, top) if as_bars else column_chart(title, bars, show, top)
