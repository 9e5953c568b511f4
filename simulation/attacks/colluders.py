"""Attackers who work together: what they know of the server, and the updates that they forge from everybody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fl_core.config import Config
from fl_core.errors import RunFolderError, UpdateRejectedError
from fl_core.rng import generator
from fl_core.tree import norm
from fl_core.types import ClientUpdate
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.attacks.base import Attack, AttackerView
from simulation.attacks.registry import attackers, build_attack
from strategies.base import Strategy, StrategyState
from strategies.registry import build_strategy
from strategies.robust.rule import Matrix, row_of, tensors_of


@dataclass(frozen=True)
class Colluders:
    """The attackers, what they do, and what they know of the server."""

    attack: Attack
    members: frozenset[str]
    """Their client_ids."""
    strategy: Strategy
    state: Callable[[], StrategyState]
    """The server's state before the round that is open."""
    max_norm: float
    """Largest norm of a part of an update that will be admitted."""
    seed: int

    def forge(self, honest: Sequence[ClientUpdate], own: Sequence[ClientUpdate]) -> list[ClientUpdate]:
        """What the attackers send in place of ``own``; both are sorted by client_id and have at least one update."""
        state = self.state()
        straight_D = self._move(state, honest)

        def damage(forged_AD: Matrix) -> float:
            forged = [with_row(update, row_D) for update, row_D in zip(own, forged_AD, strict=True)]
            if any(norm(part.tensors) > self.max_norm for update in forged for part in update.parts.values()):
                return -np.inf
            try:
                return float(np.linalg.norm(self._move(state, [*honest, *forged]) - straight_D))
            except UpdateRejectedError:
                return -np.inf

        scene = AttackerView(
            honest_ND=np.stack([whole_row(update) for update in honest]),
            own_AD=np.stack([whole_row(update) for update in own]),
            damage=damage,
            draw=generator("attack", self.seed, state.version),
        )
        return [with_row(update, row_D) for update, row_D in zip(own, self.attack.forge(scene), strict=True)]

    def _move(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Matrix:
        """[D]: what the server would add to its model."""
        opened = state
        for update in updates:
            opened = self.strategy.accumulate(opened, update)
        return row_of(self.strategy.finish(opened).model) - row_of(state.model)


def colluders_of(config: Config, client_ids: Iterable[str], run_dir: Path) -> Colluders | None:
    """The attackers of ``config`` among these clients; None where it has no attack.

    Raises:
        ConfigError: the attack or the number of attackers is wrong.
    """
    section = config.simulation.attack
    if section is None:
        return None

    def state() -> StrategyState:
        checkpoint = load_checkpoint(run_dir / "checkpoint")
        if checkpoint is None:
            raise RunFolderError(f"{run_dir}: expected a checkpoint before the first update, found none")
        return checkpoint.state

    return Colluders(
        attack=build_attack(section),
        members=attackers(section, client_ids),
        strategy=build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args),
        state=state,
        max_norm=config.round.max_update_norm,
        seed=config.run.seed,
    )


def whole_row(update: ClientUpdate) -> Matrix:
    """[D]: all parts of an update, in the order of their names."""
    return np.concatenate([row_of(update.parts[name].tensors) for name in sorted(update.parts)])


def with_row(update: ClientUpdate, row_D: Matrix) -> ClientUpdate:
    """The update with its values replaced; what float32 cannot hold becomes its largest value."""
    limit = float(np.finfo(np.float32).max)
    parts, at = {}, 0
    for name in sorted(update.parts):
        part = update.parts[name]
        size = sum(t.size for t in part.tensors.values())
        parts[name] = replace(part, tensors=tensors_of(np.clip(row_D[at : at + size], -limit, limit), part.tensors))
        at += size
    return replace(update, parts=parts)
