"""Run and resume a simulated federation; the functions behind ``fl-sim``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fl_core.config import Config, load_config, to_yaml
from fl_core.config.federation import federation_of
from fl_core.errors import RunFolderError
from fl_core.files import run_lock, write_atomic
from fl_core.runlog import Event, RunLog, is_finished
from fl_server.app import Job, make_server_app, peak_rss_mb
from fl_server.plan.setup import Setup
from fl_server.report.build import build_report
from fl_server.report.failed import failure_kept
from fl_server.report.summary import write_summary
from fl_server.watch.folder import COMPANION, companion_folders
from simulation.engines.in_process import run_server_app
from simulation.engines.registry import open_grid
from simulation.observe import watch_clients
from simulation.preflight import preflight

Listener = Callable[[Event], None]
CONFIG_FILE = "config.yaml"


def run(config: Config, out: Path | None = None, workers: int = 1, listeners: Sequence[Listener] = ()) -> Path:
    """Run a config from its start; gives the run folder, with summary.json and report.html in it.

    Raises:
        RunFolderError: the folder already holds a run.
        StonecropError: the config cannot run, and no folder has been made.
    """
    run_dir = (out or Path(config.run.out)) / config.run.name
    if (run_dir / CONFIG_FILE).exists():
        raise RunFolderError(f"{run_dir}: holds a run already; resume it, or choose another run.name or --out")
    companion = load_config(config.run.companion) if config.run.companion else None
    preflight(config)
    if companion is not None:
        preflight(companion)
        # A companion has none of its own, and is named by where it lies in the folder.
        companion = replace(companion, run=replace(companion.run, seed=config.run.seed, companion=None))
        inside = f"{COMPANION}/{companion.run.name}"
        write_atomic(run_dir / inside / CONFIG_FILE, to_yaml(companion).encode())
        config = replace(config, run=replace(config.run, companion=f"{inside}/{CONFIG_FILE}"))
    write_atomic(run_dir / CONFIG_FILE, to_yaml(config).encode())
    return resume(run_dir, workers, listeners)


def resume(run_dir: Path, workers: int = 1, listeners: Sequence[Listener] = ()) -> Path:
    """Go on with a run from its last checkpoint; a finished run only gets its summary and report again.

    Raises:
        RunFolderError: there is no run in ``run_dir``.
    """
    if not (run_dir / CONFIG_FILE).exists():
        raise RunFolderError(f"{run_dir}: expected a run folder with {CONFIG_FILE}, found none")
    with run_lock(run_dir):
        _finish_all(run_dir, workers, listeners)
    return run_dir


def _finish_all(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    """The run itself first, then its companions, then the summaries that name both.

    A companion that fails costs the run its place beside it alone: the run's own summary and report are written.
    """
    folders = [*companion_folders(run_dir, CONFIG_FILE), run_dir]
    try:
        for folder in reversed(folders):
            if not is_finished(folder):
                with failure_kept(folder):
                    _simulate(folder, workers, listeners)
    finally:
        for folder in filter(is_finished, folders):
            write_summary(folder, peak_rss_mb())
            build_report(folder)


def _simulate(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    config = load_config(run_dir / CONFIG_FILE)
    torch.set_num_threads(1)
    federation = federation_of(config)
    log = RunLog(run_dir, config.run.name)
    for listener in listeners:
        log.listen(listener)
    job = Job(Setup.of(config, federation, simulated=True), run_dir, log, watch_clients(federation.clients))
    app = make_server_app(lambda _: job)
    with open_grid(config, federation, run_dir, workers) as grid:
        run_server_app(app, grid)
