"""Tries the newest good artefact of a run on examples that nothing was trained on, and says what it answered.

The artefact is loaded in its own runtime, exactly as a board loads it; no weight of the run's checkpoint is read. The
examples are the server's test set or, where there is none, a client's held-out part. Only a simulator has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_core.data.federation import Examples, Federation
from fl_core.errors import DataError, ExportError
from fl_core.export.artifact import load_artifact
from fl_core.rng import generator
from fl_core.runlog import read_events
from fl_core.types import Array
from fl_server.report import series
from fl_server.watch.state import state_of
from fl_server.watch.words import as_percent, as_plain


@dataclass(frozen=True)
class TriedExample:
    """What the artefact said of one example. ``right`` is None where there is no right or wrong, only near and far."""

    source: str
    """Whose example it is: "test set, row 12"."""
    said: str
    truth: str
    """Empty where there are too many values to print."""
    right: bool | None
    confidence: float | None
    """Softmax probability of the answer; None where the task has no classes."""


@dataclass(frozen=True)
class Trial:
    """All answers of one artefact, with the examples they are about."""

    format: str
    round: int
    examples: Examples
    outputs_BX: Array
    answers: tuple[TriedExample, ...]


def try_artifact(run_dir: Path, count: int) -> Trial:
    """Ask the newest good artefact about ``count`` held-out examples.

    Raises:
        RunFolderError: ``run_dir`` is no run folder.
        ExportError: it holds no good artefact, or the runtime is missing.
        DataError: nothing is held out.
    """
    folder = newest_artifact(run_dir)
    config = load_config(run_dir / "config.yaml")
    federation = federation_of(config)
    source, held_out = held_out_part(federation)
    rows = pick(len(held_out), count, config.run.seed)
    examples = held_out.take(rows)
    artifact, runner = load_artifact(folder)
    outputs_BX = runner.run(examples.x)
    sources = [f"{source}, row {row}" for row in rows]
    return Trial(
        artifact.format,
        artifact.origin.round,
        examples,
        outputs_BX,
        tuple(answers(sources, examples.y, outputs_BX, federation.labels)),
    )


def newest_artifact(run_dir: Path) -> Path:
    """Folder of the last artefact that passed its gate, of the run's main width.

    Raises:
        ExportError: no artefact has been published in this run.
    """
    newest = series.main_artifact(state_of(read_events(run_dir)))
    if newest is None:
        raise ExportError(f"{run_dir}: expected a published artefact, got none (see export.formats and the report)")
    path = run_dir / newest.path
    return path if path.is_dir() else path.parent


def held_out_part(federation: Federation) -> tuple[str, Examples]:
    """Examples that train nobody: the server's test set, else the first client's own held-out part.

    Raises:
        DataError: there are none.
    """
    if federation.test is not None:
        return "test set", federation.test
    for name, client in sorted(federation.clients.items()):
        if client.test is not None:
            return name, client.test
    raise DataError("data: expected a server test set or clients' held-out parts to try the artefact on, got none")


def pick(available: int, count: int, seed: int) -> Array:
    """At most ``count`` different rows, the same ones for the same seed."""
    return np.sort(generator("try", seed).choice(available, size=min(count, available), replace=False))


def answers(sources: list[str], truth_BX: Array, outputs_BX: Array, labels: tuple[str, ...]) -> list[TriedExample]:
    """What each output means: a class with its confidence, or values beside the true ones."""
    if truth_BX.dtype.kind in "iu" and truth_BX.ndim == 1:
        return [_class_answer(*item, labels) for item in zip(sources, truth_BX, outputs_BX, strict=True)]
    return [_value_answer(*item) for item in zip(sources, truth_BX, outputs_BX, strict=True)]


def answer_table(trial: Trial) -> Table:
    """One row an example: truth, answer, confidence, and a word for right or wrong."""
    table = Table(title=f"{trial.format} artefact of round {trial.round}", title_justify="left")
    owner = trial.answers[0].source.rpartition(", ")[0]  # all examples are of one owner
    columns = {
        owner: [answer.source.rpartition(", ")[2] for answer in trial.answers],
        "truth": [answer.truth for answer in trial.answers],
        "answer": [answer.said for answer in trial.answers],
        "confidence": [_confidence(answer) for answer in trial.answers],
        "": [verdict(answer) for answer in trial.answers],
    }
    told = {name: cells for name, cells in columns.items() if any(cells)}
    for name in told:
        table.add_column(name, justify="right" if name == "confidence" else "left")
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    known = [answer.right for answer in trial.answers if answer.right is not None]
    if known:
        table.caption = f"{sum(known)} of {len(known)} right"
    return table


def verdict(answer: TriedExample) -> str:
    """Right or wrong in a word and a sign, so that it does not depend on colour."""
    return {True: "✓ right", False: "✗ wrong", None: ""}[answer.right]


def _confidence(answer: TriedExample) -> str:
    return "" if answer.confidence is None else as_percent(answer.confidence)


def _class_answer(source: str, truth: Array, output_K: Array, labels: tuple[str, ...]) -> TriedExample:
    logits_K = output_K.astype(np.float64).ravel()
    odds_K = np.exp(logits_K - logits_K.max())
    said = int(np.argmax(logits_K))
    confidence = float(odds_K[said] / odds_K.sum())
    return TriedExample(source, _label(said, labels), _label(int(truth), labels), said == int(truth), confidence)


def _value_answer(source: str, truth_X: Array, output_X: Array) -> TriedExample:
    error = float(np.sqrt(np.mean((truth_X.astype(np.float64).ravel() - output_X.astype(np.float64).ravel()) ** 2)))
    if truth_X.size > 4:
        return TriedExample(source, f"root mean square error {as_plain(error)}", "", None, None)
    return TriedExample(source, _values(output_X), _values(truth_X), None, None)


def _values(values_X: Array) -> str:
    return ", ".join(as_plain(float(value)) for value in values_X.ravel())


def _label(number: int, labels: tuple[str, ...]) -> str:
    return labels[number] if number < len(labels) else str(number)
