"""Puts the attackers of a config among the nodes of its Grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flwr.serverapp import Grid

from fl_core.config import Config
from fl_core.errors import RunFolderError
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.attacks.grid import AttackedGrid, Crew
from simulation.attacks.registry import attackers, build_attack
from simulation.engines.grid import InProcessGrid
from strategies.base import StrategyState
from strategies.registry import build_strategy


def attacked(grid: InProcessGrid, clients: Mapping[int, str], config: Config, run_dir: Path) -> Grid:
    """The Grid with the attackers of ``config`` in it; itself where there are none.

    Raises:
        ConfigError: the attack or the number of attackers is wrong.
    """
    section = config.simulation.attack
    if section is None:
        return grid

    def state() -> StrategyState:
        checkpoint = load_checkpoint(run_dir / "checkpoint")
        if checkpoint is None:
            raise RunFolderError(f"{run_dir}: expected a checkpoint before the first update, found none")
        return checkpoint.state

    crew = Crew(
        attack=build_attack(section),
        members=attackers(section, clients.values()),
        strategy=build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args),
        state=state,
        max_norm=config.round.max_update_norm,
        seed=config.run.seed,
    )
    return AttackedGrid(grid, crew, clients)
