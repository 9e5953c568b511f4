"""The Flower shell around the round loop: a ServerApp that runs one job.

In simulation the simulator hands over what it has already built. In deployment ``fl-server up`` names its folder in
the environment and the run in the run-config; whatever stops the run for good is written beside it, so that nobody
has to search Flower's logs. The loop is the same.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_core.errors import LedgerError, RunFolderError, StonecropError
from fl_core.flower_private.grid import look_again_soon, pulling_side_by_side
from fl_core.process.bounded_log import LOG_LIMIT_BYTES
from fl_core.process.structured_log import logged_with, start_logging
from fl_core.run_folder import run_lock
from fl_core.runlog import Event, RunLog
from fl_core.storage import storage_error
from fl_server.deploy.control import Control
from fl_server.deploy.home import ServerHome
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.nodes.members import Enrolled
from fl_server.plan.checks import check_deployed
from fl_server.plan.setup import Setup
from fl_server.report.build import build_report
from fl_server.report.failed import failure_kept
from fl_server.report.summary import write_summary
from fl_server.results.observer import Observer
from fl_server.rounds.loop import run_rounds
from fl_server.rounds.spending import ClientLedgers
from fl_server.watch.left_out import NewReasons

logger = logging.getLogger(__name__)

SERVERAPP_LOG = "serverapp.log"
"""Among a server's logs, for Flower lets nobody see what a ServerApp prints."""
TAKEOVER_S = 30.0
"""How long a new ServerApp waits for the one before it to let go of the run folder."""


@dataclass(frozen=True)
class Job:
    """What a ServerApp runs."""

    setup: Setup
    run_dir: Path
    log: RunLog
    observe: Observer | None = None
    enrolled: Enrolled | None = None
    ledgers: ClientLedgers | None = None
    """What all clients have spent, in a simulation alone."""


def make_server_app(job_of: Callable[[Context], Job]) -> ServerApp:
    """A ServerApp that runs the job which the context names."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_job(grid, job_of(context))

    return app


def run_job(grid: Grid, job: Job) -> None:
    """All rounds of a job that are not done yet."""
    try:
        exchange = FlowerExchange(grid)
        run_rounds(exchange, job.setup, job.run_dir, job.log, job.observe, job.enrolled, job.ledgers)
    except (OSError, LedgerError):
        job.log.check_own()  # a file that is gone is the least of it where the folder is
        raise
    finally:
        job.log.close()


def run_deployed(grid: Grid, run_dir: Path, enrolled: Enrolled | None = None) -> None:
    """Run or go on with the run in ``run_dir``, up to its summary and report.

    ``enrolled`` says which name each node must answer with.

    Raises:
        RunFolderError: another ServerApp is at work on it, or it was deleted; of that, nothing is kept.
        StonecropError: the run cannot go on; the reason is in the folder too.
    """
    with logged_with(run=run_dir.name), run_lock(run_dir, TAKEOVER_S), _failure_logged():
        if not (run_dir / "config.yaml").is_file():
            raise RunFolderError(f"{run_dir}: expected a run, found none: it was deleted before its turn came")
        with failure_kept(run_dir):
            torch.set_num_threads(1)
            config = load_config(run_dir / "config.yaml")
            check_deployed(config)
            setup = Setup.of(config, federation_of(config))
            log = RunLog(run_dir, config.run.name)
            log.listen(log_event)
            log.listen(_log_reasons())
            run_job(grid, Job(setup, run_dir, log, enrolled=enrolled))
            write_summary(run_dir, peak_rss_mb())
            build_report(run_dir)


def log_event(event: Event) -> None:
    """Say in the process's log what an event says of a round as a whole, of a client left out, or of a veto."""
    with logged_with(round=event["round"], client_id=event.get("client_id")):
        if "reason" in event:
            level = logging.INFO if event["kind"] == "client_dropped" else logging.WARNING
            logger.log(level, "%s: %s", event["kind"], event["reason"])
        elif event["kind"] == "round_finished":
            counts = event["accepted"], event["rejected"], event["seconds"]
            logger.info("round_finished: %d updates accepted, %d rejected, %.1f s", *counts)


def _log_reasons() -> Callable[[Event], None]:
    """A listener that logs at the end of a round why clients were left out of it, each reason once a process."""
    reasons = NewReasons()

    def listen(event: Event) -> None:
        for line in reasons.update(event):
            logger.warning("%s", line)

    return listen


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _failure_logged() -> Iterator[None]:
    """Say in the process's log what ends a run; what the operating system refuses becomes an error of its own."""
    try:
        yield
    except OSError as error:
        told = storage_error(error, "it goes on by itself")
        logger.error("the run cannot go on: %s", told)
        raise told from error
    except StonecropError as error:
        for problem in error.problems:
            logger.error("the run cannot go on: %s", problem)
        raise
    except Exception:
        logger.exception("the run cannot go on")
        raise


def _deployed_app() -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        home = ServerHome.of_process(os.environ)
        log = home.logs / SERVERAPP_LOG
        start_logging(handler=RotatingFileHandler(log, maxBytes=LOG_LIMIT_BYTES, backupCount=1, encoding="utf-8"))
        look_again_soon()
        with pulling_side_by_side(grid):
            run_deployed(grid, home.run_dir(str(context.run_config["run"])), Control(home).names)

    return app


app = _deployed_app()
