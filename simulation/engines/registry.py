"""The table of engines, and the Grid of a run by one of them.

An engine is a context manager that opens a Grid over a fleet. Whatever the engine, the same replies come in the same
order, for the virtual clock says when each is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fl_core.config import Config
from fl_core.data.federation import Federation
from simulation.attacks.colluders import colluders_of
from simulation.attacks.grid import AttackedGrid
from simulation.engines.fleet import SimulatedFleet
from simulation.engines.inline import open_inline
from simulation.engines.pool import open_pool
from simulation.fleet.grid import VirtualGrid
from simulation.same_data import check_same_data

OpenEngine = Callable[[SimulatedFleet], AbstractContextManager[VirtualGrid]]

ENGINES: Mapping[str, OpenEngine] = {
    "inline": open_inline,
    "pool": open_pool,
}


def engine_name(workers: int) -> str:
    """The engine for so many worker processes."""
    return "inline" if workers <= 1 else "pool"


@contextmanager
def open_grid(config: Config, federation: Federation, run_dir: Path, workers: int) -> Iterator[VirtualGrid]:
    """A Grid over all simulated clients, with the attackers of ``config`` among them.

    Raises:
        ConfigError: the attack, the number of attackers or the name of a simulated client is wrong.
        DataError: the data is not the one with which the run began.
    """
    check_same_data(config, federation, run_dir)
    fleet = SimulatedFleet.of(config, federation, run_dir, workers)
    with ENGINES[engine_name(workers)](fleet) as grid:
        colluders = colluders_of(config, fleet.nodes.values(), run_dir)
        yield grid if colluders is None else AttackedGrid(grid, colluders, fleet.nodes)
