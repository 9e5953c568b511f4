"""Run and resume a simulated federation; the functions behind ``fl-sim``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from fl_core.config import Config, load_config, to_yaml
from fl_core.config.federation import federation_of
from fl_core.errors import RunFolderError
from fl_core.run_folder import begin_run_folder, overwriting_was_interrupted, refuse_at_work, run_lock
from fl_core.runlog import Event, RunLog, check_reaches, is_finished
from fl_server.app import Job, make_server_app, peak_rss_mb
from fl_server.plan.setup import Setup
from fl_server.report.build import build_report
from fl_server.report.failed import failure_kept
from fl_server.report.summary import write_summary
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.same_run import check_same_run
from fl_server.watch.folder import COMPANION, companion_folders
from simulation.client_ledger import SimulatedLedgers, check_ledger
from simulation.engines.in_process import run_server_app
from simulation.engines.registry import open_grid
from simulation.observe import watch_clients
from simulation.preflight import preflight
from simulation.same_data import data_file

Listener = Callable[[Event], None]
CONFIG_FILE = "config.yaml"


def run(
    config: Config,
    out: Path | None = None,
    workers: int = 1,
    listeners: Sequence[Listener] = (),
    overwrite: bool = False,
) -> Path:
    """Run a config from its start; gives the run folder, with summary.json and report.html in it.

    Args:
        config: what to run.
        out: folder in which the run folder is made; ``run.out`` by default.
        workers: processes that train clients.
        listeners: are told every event.
        overwrite: delete the run of this name first, unless the config cannot run or a process is at work on it.

    Raises:
        RunFolderError: the folder already holds a run, or is another process's.
        StonecropError: the config cannot run, and no folder has been made.
        OSError: the operating system refuses to write.
    """
    run_dir = (out or Path(config.run.out)) / config.run.name
    _check_room(run_dir, overwrite)
    files = _first_files(config)
    with run_lock(run_dir):
        _check_room(run_dir, overwrite, held=True)  # another process may have been quicker
        begin_run_folder(run_dir, files)
        _finish_all(run_dir, workers, listeners)
    return run_dir


def resume(run_dir: Path, workers: int = 1, listeners: Sequence[Listener] = ()) -> Path:
    """Go on with a run from its last checkpoint; a finished run only gets its summary and report again.

    Raises:
        RunFolderError: there is no run in ``run_dir``, or another process is at work on it.
        OSError: the operating system refuses to write.
    """
    _check_begun(run_dir)
    with run_lock(run_dir):
        _check_begun(run_dir)
        _finish_all(run_dir, workers, listeners)
    return run_dir


def _first_files(config: Config) -> dict[str, bytes]:
    """What a run folder begins with: its config and that of its companion, both of which can run, and which data."""
    companion = load_config(config.run.companion) if config.run.companion else None
    data = {str(data_file(Path())): json.dumps(preflight(config).data, indent=2).encode()}
    if companion is None:
        return {**data, CONFIG_FILE: to_yaml(config).encode()}
    preflight(companion)
    # A companion has none of its own, and is named by where it lies in the folder.
    companion = replace(companion, run=replace(companion.run, seed=config.run.seed, companion=None))
    inside = f"{COMPANION}/{companion.run.name}/{CONFIG_FILE}"
    config = replace(config, run=replace(config.run, companion=inside))
    return {**data, inside: to_yaml(companion).encode(), CONFIG_FILE: to_yaml(config).encode()}


def _check_room(run_dir: Path, overwrite: bool, held: bool = False) -> None:
    """Refuse to mix a new run with an old one; only a run may be overwritten, and only where that was asked for.

    Raises:
        RunFolderError: the folder is in the way, or a process is at work on it or, unless it is ``held``, on its run.
    """
    for folder in (*(() if held else (run_dir,)), *companion_folders(run_dir, CONFIG_FILE)):
        refuse_at_work(folder)
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return
    if not run_dir.is_dir() or not (run_dir / CONFIG_FILE).is_file():
        raise RunFolderError(f"{run_dir}: expected a run folder or nothing, got something else; it is left alone")
    if not overwrite:
        raise RunFolderError(
            f"{run_dir}: holds a run already. Go on with it: fl-sim resume {run_dir}. Keep it and run anew: add "
            "run.name=another or --out DIR. Delete it and run anew: --overwrite"
        )


def _check_begun(run_dir: Path) -> None:
    if not (run_dir / CONFIG_FILE).is_file():
        why = "; it was being overwritten: run it anew" if overwriting_was_interrupted(run_dir) else ""
        raise RunFolderError(f"{run_dir}: expected a run folder with {CONFIG_FILE}, found none{why}")


def _finish_all(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    """The run itself first, then its companions, then the summaries that name both.

    A companion that fails costs the run its place beside it alone: the run's own summary and report are written.
    """
    companions = companion_folders(run_dir, CONFIG_FILE)
    with ExitStack() as locks:
        for folder in companions:  # each can be resumed by itself, but not beside this
            locks.enter_context(run_lock(folder))
        done: list[Path] = []  # and still this run's own
        try:
            for folder in (run_dir, *reversed(companions)):
                if not is_finished(folder):
                    _check_whole(folder)
                    with failure_kept(folder):
                        _simulate(folder, workers, listeners)
                done.append(folder)
        finally:
            for folder in reversed(done):
                write_summary(folder, peak_rss_mb())
                build_report(folder)


def _check_whole(run_dir: Path) -> None:
    """Refuse to go on in a folder that lacks something of the rounds that are done; nothing is changed.

    Raises:
        RunFolderError: its config is not that of the checkpoint, or its log lacks events or is damaged.
        LedgerError: its clients' ledger is gone, or knows less than the checkpoint.
    """
    config, checkpoint = load_config(run_dir / CONFIG_FILE), load_checkpoint(run_dir / "checkpoint")
    if checkpoint is None:
        check_reaches(run_dir, 0)
        return
    check_same_run(run_dir, config, checkpoint)
    check_ledger(config, run_dir, checkpoint)


def _simulate(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    config = load_config(run_dir / CONFIG_FILE)
    torch.set_num_threads(1)
    federation = federation_of(config)
    with closing(RunLog(run_dir, config.run.name)) as log:
        for listener in listeners:
            log.listen(listener)
        setup = Setup.of(config, federation, simulated=True)
        with closing(SimulatedLedgers(run_dir)) as ledgers, open_grid(config, federation, run_dir, workers) as grid:
            job = Job(setup, run_dir, log, watch_clients(federation.clients), ledgers=ledgers)
            run_server_app(make_server_app(lambda _: job), grid)
