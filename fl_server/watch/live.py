"""Live progress of a run on standard error: rounds, clients, accuracy, epsilon and time left, from its events alone.

``RunProgress`` turns events into figures and draws nothing; ``LiveProgress`` shows them, as bars on a terminal and as
one plain line a round anywhere else. It is a listener for ``RunLog.listen`` and reads, never writes, what a run does.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fl_core.runlog import Event
from fl_server.report.privacy_words import NOT_PRIVATE
from fl_server.report.show import as_metric, as_seconds

LEFT_OUT = ("client_failed", "client_refused", "client_rejected", "client_missing")
RECENT_ROUNDS = 5  # rounds whose mean time tells how long the rest will take


class RunProgress:
    """The newest figures of one run. ``None`` where nothing is known yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds = 0
        self.rounds_done = 0
        self.cohort = 0
        self.answered = 0
        self.left_out = 0
        self.metric = "accuracy"
        self.accuracy: float | None = None
        self.epsilon: float | None = None
        self.named_seeds = False
        self._round_seconds: list[float] = []

    def update(self, event: Event) -> None:
        """Take in one event of this run."""
        match event["kind"]:
            case "run_started":
                self.rounds = event["rounds"]
                self.named_seeds = bool((event.get("privacy") or {}).get("named_seeds"))
                self.metric = (event["data"] or {}).get("metric") or "accuracy"
            case "run_resumed":
                self.rounds_done = event["rounds_done"]
                self.cohort = self.answered = 0
            case "round_started":
                self.cohort, self.answered, self.left_out = len(event["cohort"]), 0, 0
            case "client_finished":
                self.answered += 1
            case "round_finished":
                self._finish_round(event)
            case "run_finished":
                self.rounds_done = event["rounds_done"]
            case kind if kind in LEFT_OUT:
                self.left_out += 1

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the newest rounds; None before the first and after the last one."""
        if not self._round_seconds or self.rounds_done == self.rounds:
            return None
        return sum(self._round_seconds) / len(self._round_seconds) * (self.rounds - self.rounds_done)

    def line(self) -> str:
        """The figures of the newest round in one line."""
        clients = f"{self.answered} of {self.cohort} clients" if self.cohort else ""
        if self.left_out:
            clients += f" ({self.left_out} left out)"
        accuracy = "" if self.accuracy is None else f"{self.metric} {as_metric(self.metric)(self.accuracy)}"
        epsilon = "" if self.epsilon is None else f"epsilon {self.epsilon:.2f}"
        epsilon = NOT_PRIVATE if self.named_seeds else epsilon
        left = "" if self.seconds_left is None else f"{as_seconds(self.seconds_left)} left"
        return ", ".join(part for part in (clients, accuracy, epsilon, left) if part)

    def _finish_round(self, event: Event) -> None:
        self.rounds_done = event["round"]
        self._round_seconds = [*self._round_seconds, event["seconds"]][-RECENT_ROUNDS:]
        if event["epsilon_max"] is not None:
            self.epsilon = max(self.epsilon or 0.0, event["epsilon_max"])
        keys = ("accuracy_int8", "accuracy_fake_quant", "accuracy_float")
        found = [event["evaluation"][key] for key in keys if (event["evaluation"] or {}).get(key) is not None]
        self.accuracy = found[0] if found else self.accuracy


class LiveProgress:
    """Shows the progress of one or several runs; a context manager that is called with every event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: dict[str, RunProgress] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("[bold]{task.fields[run]}", markup=True),
            BarColumn(bar_width=24),
            TextColumn("round {task.completed:.0f} of {task.total:.0f}"),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> LiveProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def replay(self, events: Iterable[Event]) -> None:
        """Take in what happened before a resumption, without a line for each round."""
        for event in events:
            self._progress_of(event).update(event)

    def __call__(self, event: Event) -> None:
        """Take in one event and show what changed."""
        progress = self._progress_of(event)
        progress.update(event)
        if self._console.is_terminal:
            self._draw(progress)
        elif event["kind"] == "round_finished":
            text = f"{progress.name}: round {progress.rounds_done} of {progress.rounds}: {progress.line()}"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _progress_of(self, event: Event) -> RunProgress:
        name = event["run"]
        if event["kind"] == "run_started" or name not in self._runs:
            self._runs[name] = RunProgress(name)
        return self._runs[name]

    def _draw(self, progress: RunProgress) -> None:
        if progress.name not in self._tasks:
            self._tasks[progress.name] = self._bars.add_task("", total=progress.rounds, run=progress.name, figures="")
        self._bars.update(
            self._tasks[progress.name],
            total=progress.rounds,
            completed=progress.rounds_done,
            figures=progress.line(),
        )
