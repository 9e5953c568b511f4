"""The engine that computes clients in worker processes, each with a trainer of its own and all with one ledger file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_core.errors import StonecropError
from fl_core.flower_private import identify_process
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.fleet import SimulatedFleet
from simulation.engines.in_process import InProcessGrid, SharedFailureError, run_app
from simulation.fleet.grid import RUN_ID
from simulation.same_data import check_same_data
from simulation.workers import worker_pool

_worker_app: ClientApp | None = None
_not_started: OSError | StonecropError | None = None
"""What went wrong when this worker began; an error of the beginning itself would say nothing."""


@contextmanager
def open_pool(fleet: SimulatedFleet) -> Iterator[InProcessGrid]:
    """A Grid whose nodes compute in ``fleet.workers`` processes; the results are those of any other number."""
    with worker_pool(fleet.workers, _start_worker, (str(fleet.run_dir),)) as pool:
        yield InProcessGrid(fleet.nodes, answer_in_worker, pool, fleet.clock)


def _start_worker(run_dir: str) -> None:
    """Build this worker's own app from the run folder; it shares nothing with the others but the ledger file."""
    global _worker_app, _not_started
    torch.set_num_threads(1)
    identify_process(RUN_ID)
    folder = Path(run_dir)
    try:
        config = load_config(folder / "config.yaml")
        federation = federation_of(config)
        check_same_data(config, federation, folder)
        _worker_app = client_app(build_trainer(config, federation, folder))
    except (OSError, StonecropError) as error:
        _not_started = error


def answer_in_worker(message: Message, context: Context) -> Message | None:
    """A message answered by the app of this worker process, in which the Grid makes a reply of what it raises.

    Raises:
        SharedFailureError: this worker did not start, for its data are others than those that the run began with, say.
        OSError: the operating system refused something as it started.
    """
    if isinstance(_not_started, StonecropError):
        raise SharedFailureError(_not_started)
    if _not_started is not None:
        raise _not_started
    if _worker_app is None:
        raise RuntimeError("a worker process answers only after it was started")
    return run_app(_worker_app, message, context)
