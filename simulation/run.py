"""Run, resume and outline a simulated federation; the functions behind ``fl-sim``."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, RecordDict

from fl_client.trainer import size_class
from fl_core import __version__
from fl_core.assemble import federation_of, trainable_tensors
from fl_core.config import Config, load_config, to_yaml
from fl_core.data.datasets import DATASETS
from fl_core.errors import ConfigError, RunFolderError
from fl_core.export.registry import build_exporter
from fl_core.models import MODELS
from fl_core.registry import load_callable, look_up
from fl_core.runlog import Event, RunLog, read_events, write_atomic
from fl_core.tasks import TASKS
from fl_core.types import ClientInfo
from fl_server.app import Job, make_server_app
from fl_server.report import build_report
from fl_server.report.summary import write_summary
from fl_server.setup import Setup
from simulation.grid import RUN_ID
from simulation.observe import watch_clients
from simulation.world import open_grid
from strategies.registry import STRATEGIES

Listener = Callable[[Event], None]
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class RunOutline:
    """What a config would run."""

    config: Config
    clients: int
    examples: int
    parameters: int
    rounds: int
    privacy: dict[str, Any] | None
    formats: tuple[str, ...]


def run(config: Config, out: Path | None = None, workers: int = 1, listeners: Sequence[Listener] = ()) -> Path:
    """Run a config from its start; gives the run folder, with summary.json and report.html in it.

    Raises:
        RunFolderError: the folder already holds a run.
        StonecropError: the config cannot run, and no folder has been made.
    """
    run_dir = (out or Path(config.run.out)) / config.run.name
    if (run_dir / CONFIG_FILE).exists():
        raise RunFolderError(f"{run_dir}: holds a run already; resume it, or choose another run.name or --out")
    beside = load_config(config.run.beside) if config.run.beside else None
    preflight(config)
    if beside is not None:
        preflight(beside)
        # A comparison has no comparison of its own, and is named by where it lies in the folder.
        beside = replace(beside, run=replace(beside.run, seed=config.run.seed, beside=None))
        inside = f"beside/{beside.run.name}"
        write_atomic(run_dir / inside / CONFIG_FILE, to_yaml(beside).encode())
        config = replace(config, run=replace(config.run, beside=f"{inside}/{CONFIG_FILE}"))
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


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold a run folder for this process; the operating system lets go of it however the process ends.

    Raises:
        RunFolderError: another process holds it.
    """
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(f"{run_dir}: another process is at work on this run") from None
        yield


def _finish_all(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    """The run itself first, then what stands beside it, then the summaries that name both."""
    folders = [*sorted(path.parent for path in run_dir.glob(f"beside/*/{CONFIG_FILE}")), run_dir]
    for folder in reversed(folders):
        if not is_finished(folder):
            _simulate(folder, workers, listeners)
    for folder in folders:
        write_summary(folder, peak_rss_mb())
        build_report(folder)


def is_finished(run_dir: Path) -> bool:
    """Whether the last event says that all rounds are done."""
    kind = None
    with suppress(RunFolderError):
        for event in read_events(run_dir):
            kind = event["kind"]
    return kind == "run_finished"


def preflight(config: Config) -> RunOutline:
    """Build everything that a run needs and start nothing.

    Raises:
        ConfigError: names that nothing has, all of them at once.
        StonecropError: whatever else would stop the run.
    """
    _check_names(config)
    federation = federation_of(config)
    setup = Setup.of(config, federation)
    tensors = trainable_tensors(setup.model)
    infos = [ClientInfo(name, size_class(len(c.train)), __version__, True) for name, c in federation.clients.items()]
    return RunOutline(
        config=config,
        clients=len(federation.clients),
        examples=sum(len(client.train) for client in federation.clients.values()),
        parameters=sum(t.size for t in tensors.values()),
        rounds=config.run.rounds,
        privacy=setup.describe_privacy(infos),
        formats=config.export.formats,
    )


def _check_names(config: Config) -> None:
    chosen: dict[str, tuple[str | None, str | None, Mapping[str, object]]] = {
        "data": (config.data.name, config.data.factory, DATASETS),
        "task": (config.task.name, config.task.factory, TASKS),
        "model": (config.model.name, config.model.factory, MODELS),
        "strategy": (config.strategy.name, config.strategy.factory, STRATEGIES),
    }
    checks: list[Callable[[], object]] = [partial(build_exporter, name) for name in config.export.formats]
    for section, (name, factory, table) in chosen.items():
        if factory is not None:
            checks.append(partial(load_callable, factory, f"{section}.factory"))
        elif name is not None:
            checks.append(partial(look_up, f"{section}.name", name, table))
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _simulate(run_dir: Path, workers: int, listeners: Sequence[Listener]) -> None:
    config = load_config(run_dir / CONFIG_FILE)
    torch.set_num_threads(1)
    federation = federation_of(config)
    log = RunLog(run_dir, config.run.name)
    for listener in listeners:
        log.listen(listener)
    job = Job(Setup.of(config, federation), run_dir, log, watch_clients(federation.clients))
    app = make_server_app(lambda _: job)
    with open_grid(config, federation, run_dir, workers) as grid:
        app(grid, Context(RUN_ID, os.getpid(), {}, RecordDict(), {}))
