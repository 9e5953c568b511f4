"""The Flower shell around the round loop: a ServerApp that runs one config.

In deployment the run-config names the config file and its overrides; in simulation the simulator hands over what it
has already built. The loop is the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fl_core.assemble import federation_of
from fl_core.config import load_config, to_yaml
from fl_core.runlog import RunLog, write_atomic
from fl_server.rounds import Observer, run_rounds
from fl_server.setup import Setup


@dataclass(frozen=True)
class Job:
    """What a ServerApp runs."""

    setup: Setup
    run_dir: Path
    log: RunLog
    observe: Observer | None = None


def make_server_app(job_of: Callable[[Context], Job]) -> ServerApp:
    """A ServerApp that runs the job which the context names."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        job = job_of(context)
        try:
            run_rounds(grid, job.setup, job.run_dir, job.log, job.observe)
        finally:
            job.log.close()

    return app


def job_from_run_config(context: Context) -> Job:
    """The job of a deployed run: ``config`` is a path, ``overrides`` a dot-list with blanks between."""
    overrides = shlex.split(str(context.run_config.get("overrides", "")))
    config = load_config(str(context.run_config["config"]), overrides)
    run_dir = Path(config.run.out) / config.run.name
    write_atomic(run_dir / "config.yaml", to_yaml(config).encode())
    return Job(Setup.of(config, federation_of(config)), run_dir, RunLog(run_dir, config.run.name))


app = make_server_app(job_from_run_config)
