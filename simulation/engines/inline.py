"""The engine that computes every client in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from simulation.engines.clients import build_trainer, client_app
from simulation.engines.fleet import SimulatedFleet
from simulation.engines.in_process import InProcessGrid, run_app


@contextmanager
def open_inline(fleet: SimulatedFleet) -> Iterator[InProcessGrid]:
    """A Grid whose nodes share one trainer in this process."""
    torch.set_num_threads(1)
    app = client_app(build_trainer(fleet.config, fleet.federation, fleet.run_dir))
    yield InProcessGrid(fleet.nodes, partial(run_app, app), clock=fleet.clock)
