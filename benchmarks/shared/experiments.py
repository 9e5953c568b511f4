"""Runs many configs over many seeds, some at a time, and reads what came out; what the accuracy benchmarks share.

A run lies in ``OUT/<row>/seed-<n>/<run.name>`` and is an ordinary run folder. One whose config is the same is used
again, or gone on with where it was interrupted; one of another config is deleted and run anew. The config is all that
is compared: after a change of the code, delete the folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fl_core.config import Config, load_config, to_plain
from fl_core.errors import RunFolderError
from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.watch.state import state_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LAST_ROUND_ONLY = 1_000_000
"""``export.every`` of a run that needs the artefact of its last round only."""


@dataclass(frozen=True)
class Experiment:
    """One run of a table's row; its seed is that of the config."""

    row: str
    config: Config

    def folder(self, out: Path) -> Path:
        """Where its run folder is."""
        return out / self.row / f"seed-{self.config.run.seed}" / self.config.run.name


@dataclass(frozen=True)
class ExperimentOutcome:
    """What one finished run came to; accuracies are shares, None where the run has no such figure."""

    row: str
    seed: int
    int8: float | None
    """Of the artefact in its runtime, on the server's test set."""
    floating: float | None
    """Of the same weights with fake-quant off, there."""
    own_int8: Mapping[str, float]
    """Of the artefact on each client's own held-out part."""
    own_float: Mapping[str, float]
    groups: Mapping[str, float]
    """Of the artefact on each named group of the server's test set."""
    initial: float | None
    agreement: float | None
    """Least share of equal answers of artefact and fake-quant forward, over the run's artefacts."""
    max_lsb: int | None
    """Largest difference of the two."""
    float_kernels: int
    """Convolutions and matrix products that any of its artefacts computes in float."""
    epsilon: float | None
    vetoes: tuple[str, ...]
    seconds: float


def experiment(row: str, config: str, overrides: Sequence[str], seed: int) -> Experiment:
    """A shipped config, alone, exporting after its last round."""
    alone = ["run.companion=null", f"export.every={LAST_ROUND_ONLY}", f"run.seed={seed}"]
    return Experiment(row, load_config(CONFIGS / config, [*overrides, *alone]))


def run_all(experiments: Sequence[Experiment], out: Path, workers: int, console: Console) -> list[ExperimentOutcome]:
    """Run what is not finished yet on ``workers`` processes; gives the outcomes in the order of ``experiments``."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # One Ctrl-C ends the workers too; each run goes on from its checkpoint the next time.
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    context = multiprocessing.get_context("spawn")
    with bar, ProcessPoolExecutor(workers, mp_context=context) as pool:
        task = bar.add_task("runs", total=len(experiments))
        futures = {pool.submit(run_one, each, out): each for each in experiments}
        try:
            for future in as_completed(futures):
                future.result()
                done = futures[future]
                bar.update(task, advance=1, description=f"{done.row}, seed {done.config.run.seed}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [read_outcome(each, out) for each in experiments]


def run_one(each: Experiment, out: Path) -> Path:
    """The finished run folder of an experiment.

    Raises:
        RunFolderError: something else is in its place.
    """
    from fl_core.runlog import is_finished
    from simulation.run import resume, run

    folder = each.folder(out)
    if (folder / "config.yaml").is_file():
        if decides(load_config(folder / "config.yaml")) == decides(each.config):
            return folder if is_finished(folder) and (folder / "summary.json").is_file() else resume(folder)
        shutil.rmtree(folder)
    elif folder.exists():
        raise RunFolderError(f"{folder}: expected a run folder or nothing, got something else; it is left alone")
    return run(each.config, out=folder.parent)


def decides(config: Config) -> dict[str, Any]:
    """All of a config that decides a run's result."""
    plain = to_plain(config)
    return {**plain, "run": {key: value for key, value in plain["run"].items() if key not in ("out", "companion")}}


def read_outcome(each: Experiment, out: Path) -> ExperimentOutcome:
    """The figures of a finished run."""
    folder = each.folder(out)
    state = state_of(read_events(folder))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    agreements = [artifact.top1_agreement for artifact in state.artifacts]
    differences = [artifact.max_lsb for artifact in state.artifacts]
    clients = series.client_accuracies(state)
    return ExperimentOutcome(
        row=each.row,
        seed=each.config.run.seed,
        int8=summary["accuracy_int8"],
        floating=summary["accuracy_float"],
        own_int8={row.client_id: row.accuracy_int8 for row in clients if row.accuracy_int8 is not None},
        own_float={row.client_id: row.accuracy_float for row in clients if row.accuracy_float is not None},
        groups=summary["groups"],
        initial=summary["initial_accuracy"],
        agreement=min((value for value in agreements if value is not None), default=None),
        max_lsb=max((value for value in differences if value is not None), default=None),
        float_kernels=sum(artifact.float_kernels for artifact in state.artifacts),
        epsilon=summary["privacy"]["epsilon_max"] if summary["privacy"] else None,
        vetoes=tuple(mishap.reason for mishap in state.mishaps if mishap.kind == "artifact_vetoed"),
        seconds=summary["seconds"],
    )
