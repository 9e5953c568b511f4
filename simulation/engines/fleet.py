"""What every engine is given: the clients of a run, where their files lie, and when their replies are due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_core.config import Config
from fl_core.data.federation import Federation
from simulation.engines.in_process import nodes_of
from simulation.fleet.clock import VirtualClock, virtual_clock


@dataclass(frozen=True)
class SimulatedFleet:
    """The clients of one run."""

    config: Config
    federation: Federation
    run_dir: Path
    workers: int
    """Processes that compute, for an engine that has more than this one."""
    nodes: Mapping[int, str]
    """The client_id of each node, by node id."""
    clock: VirtualClock

    @classmethod
    def of(cls, config: Config, federation: Federation, run_dir: Path, workers: int) -> SimulatedFleet:
        """One node a client of the federation, with the times that the config names.

        Raises:
            ConfigError: the config names a client that there is not.
        """
        clock = virtual_clock(config, federation.clients)
        return cls(config, federation, run_dir, workers, nodes_of(federation.clients), clock)
