"""The engine that computes clients in worker processes, each with a trainer of its own and all with one ledger file."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
from simulation.engines.in_process import InProcessGrid, run_app
from simulation.fleet.grid import RUN_ID
from simulation.same_data import check_same_data

_worker_app: ClientApp | None = None
_not_started: OSError | StonecropError | None = None
"""What went wrong when this worker began; an error of the beginning itself would say nothing."""


@contextmanager
def open_pool(fleet: SimulatedFleet) -> Iterator[InProcessGrid]:
    """A Grid whose nodes compute in ``fleet.workers`` processes; the results are those of any other number.

    Raises:
        DataError: a worker makes other data than the run began with.
        StonecropError: whatever else keeps a worker from its start.
        OSError: the operating system does.
    """
    context = multiprocessing.get_context("spawn")
    start = (str(fleet.run_dir),)
    with ProcessPoolExecutor(fleet.workers, mp_context=context, initializer=_start_worker, initargs=start) as pool:
        try:
            began = pool.submit(_check_started).exception()  # a pool that is broken says so to whoever asks a client
            if isinstance(began, (OSError, StonecropError)):
                raise began
            yield InProcessGrid(fleet.nodes, answer_in_worker, pool, fleet.clock)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # nobody waits for what has not begun
            raise


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


def _check_started() -> None:
    """Raise, in a worker process, what went wrong when it began."""
    if _not_started is not None:
        raise _not_started


def answer_in_worker(message: Message, context: Context) -> Message | None:
    """A message answered by the app of this worker process, in which the Grid makes a reply of what it raises."""
    _check_started()
    if _worker_app is None:
        raise RuntimeError("a worker process answers only after it was started")
    return run_app(_worker_app, message, context)
