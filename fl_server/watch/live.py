"""Live progress of a run on standard error: rounds, clients, accuracy, epsilon and time left, from its events alone.

``RunProgress`` turns a run's state into one line and draws nothing; ``LiveProgress`` shows it, as a bar on a terminal
and as one plain line a round anywhere else. It is a listener for ``RunLog.listen`` and reads, never writes, what a run
does.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fl_core.runlog import Event
from fl_server.watch.earlier_runs import caps_in_words
from fl_server.watch.findings import findings_of_start
from fl_server.watch.left_out import NewReasons
from fl_server.watch.state import RunState
from fl_server.watch.words import NOT_PRIVATE, as_metric, as_seconds

RECENT_ROUNDS = 5  # rounds whose mean time tells how long the rest will take


class RunProgress:
    """How far one run is, in a line that grows with its events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = RunState()
        self.reasons = NewReasons()

    def update(self, event: Event) -> None:
        """Take in one event of this run."""
        self.state.update(event)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the newest rounds; None before the first and after the last one."""
        left = self.state.rounds_planned - self.state.rounds_done
        recent = [each.seconds for each in self.state.newest_rounds(RECENT_ROUNDS)]
        return sum(recent) / len(recent) * left if recent and left else None

    def line(self) -> str:
        """The newest figures in one line: clients of the newest round, accuracy, epsilon, time left."""
        state, show = self.state, as_metric(self.state.metric)
        accuracy = "" if state.accuracy is None else f"{state.metric} {show(state.accuracy)}"
        epsilon = "" if state.epsilon_max is None else f"epsilon {state.epsilon_max:.2f}"
        epsilon = NOT_PRIVATE if state.named_seeds else epsilon
        left = "" if self.seconds_left is None else f"{as_seconds(self.seconds_left)} left"
        return ", ".join(part for part in (self._clients(), accuracy, epsilon, left) if part)

    def _clients(self) -> str:
        if self.state.current is None:
            return ""
        newest = self.state.rounds[self.state.current]
        clients = f"{newest.answered} of {newest.cohort} clients" if newest.cohort else ""
        return f"{clients} ({newest.left_out} left out)" if newest.left_out else clients


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
        if event["kind"] == "run_started":
            if caps := caps_in_words(progress.state):
                self._say(f"{progress.name}: {caps}")
            for finding in findings_of_start(progress.state):
                self._say(f"{progress.name}: {finding}")
        for line in progress.reasons.update(event):
            self._say(f"{progress.name}: {line}")
        if self._console.is_terminal:
            self._draw(progress)
        elif event["kind"] == "round_finished":
            state = progress.state
            text = f"{progress.name}: round {state.rounds_done} of {state.rounds_planned}: {progress.line()}"
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _progress_of(self, event: Event) -> RunProgress:
        name = event["run"]
        if event["kind"] == "run_started" or name not in self._runs:
            self._runs[name] = RunProgress(name)
        return self._runs[name]

    def _draw(self, progress: RunProgress) -> None:
        if progress.name not in self._tasks:
            rounds = progress.state.rounds_planned
            self._tasks[progress.name] = self._bars.add_task("", total=rounds, run=progress.name, figures="")
        self._bars.update(
            self._tasks[progress.name],
            total=progress.state.rounds_planned,
            completed=progress.state.rounds_done,
            figures=progress.line(),
        )
