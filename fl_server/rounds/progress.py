"""Where a run happens, and how far it is between two rounds: what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fl_core.privacy.ledger_head import LedgerHead
from fl_core.runlog import RunLog
from fl_server.nodes.clock import Clock
from fl_server.nodes.exchange import Exchange
from fl_server.plan.setup import Setup, deciding_fields
from fl_server.plan.tasks import ExpectedUpdate
from fl_server.results.model import Model, Moving, Nets
from fl_server.results.observer import Observer
from fl_server.results.publish import Publication, exports
from fl_server.results.publisher import Publisher
from fl_server.rounds.checkpoint import Checkpoint, save_checkpoint
from fl_server.rounds.spending import ClientLedgers
from fl_server.selection.base import ClientHistory, histories_from_plain, histories_to_plain
from strategies.base import StrategyState


@dataclass(frozen=True)
class RunContext:
    """Where a run happens, and what serves all of its rounds."""

    exchange: Exchange
    run_dir: Path
    log: RunLog
    observe: Observer | None
    nets: Nets
    expected: ExpectedUpdate
    publisher: Publisher
    ledgers: ClientLedgers | None = None
    """The truth of what clients have spent; in a simulation alone."""

    @property
    def clock(self) -> Clock:
        """What the deadlines go by."""
        return self.exchange.clock

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.run_dir / "checkpoint"


@dataclass(frozen=True)
class Progress:
    """A run between two rounds: what its checkpoint holds."""

    setup: Setup
    model: Model
    """The global model, with the activation ranges of now."""
    state: StrategyState
    """The strategy's state; its model is that of ``model``."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """The task_id of every client's last update that was summed."""
    seen: Mapping[str, ClientHistory] = field(default_factory=dict)
    epsilon_max: float | None = None
    """The largest that any client has spent, as far as it is known; None without DP, see ``Tally``."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """What every client's data had spent by its own word when its last update was summed, or before the first its
    ranges; nobody's without DP."""
    user_epsilon: float | None = None
    """What one client has spent at the server; None without noise for whole clients."""
    user_head: LedgerHead | None = None
    """How far the server's own ledger had come; None without noise for whole clients."""
    outstanding: tuple[Mapping[str, Any], ...] = ()
    """Tasks that are under way between two versions of an asynchronous run, as plain values."""
    unpublished: frozenset[int] = frozenset()
    """Rounds whose artefacts were not out yet when this was saved; in no checkpoint, for the log says it."""

    @classmethod
    def of(cls, setup: Setup, checkpoint: Checkpoint) -> Progress:
        """What a checkpoint says."""
        facts = checkpoint.facts
        head = facts.get("user_head")  # an older version kept fewer facts
        return cls(
            setup,
            Model(setup.spec, checkpoint.state.model, Moving.from_plain(facts["ranges"])),
            checkpoint.state,
            facts["accepted"],
            histories_from_plain(facts["seen"]),
            facts["epsilon_max"],
            facts.get("spent", {}),
            facts.get("user_epsilon"),
            None if head is None else LedgerHead.of(head),
            tuple(facts["outstanding"]),
        )

    @property
    def releases_regardless(self) -> bool:
        """Whether noise for whole clients is released whoever answered: then nothing may depend on who did."""
        return "central_dp" in self.setup.strategy.traits

    def publishes(self, round: int) -> bool:
        """Whether artefacts are made of this as ``round``: where they are due, and it is not the untrained model."""
        return exports(self.setup.config, round) and (bool(self.accepted) or self.releases_regardless)

    def keep(self, context: RunContext, rounds_done: int) -> Progress:
        """Make it the newest checkpoint, and hand the round over to be published if it is one that exports.

        Raises:
            Exception: what the publication of a round before it raised; the checkpoint is written.
        """
        due = self.publishes(rounds_done) and rounds_done > 0
        # Before the log's number is read: the event of any other round is then one that the checkpoint counts.
        unpublished = context.publisher.unpublished | ({rounds_done} if due else set())
        # The checkpoint before this one may be needed itself, and with it the rounds that it knew as unpublished.
        self._save(context, rounds_done, self.unpublished | unpublished)
        context.publisher.check()  # no run goes on for long after its artefacts have failed
        if due:
            context.publisher.submit(self.publication(rounds_done))
        return replace(self, unpublished=unpublished)

    def publication(self, round: int) -> Publication:
        """This as a round whose artefacts are to be made."""
        return Publication(self.setup, self.model, round, told(self.epsilon_max), self.user_epsilon)

    def _save(self, context: RunContext, rounds_done: int, kept: frozenset[int]) -> None:
        facts = {
            "ranges": self.model.moving.ranges,
            "accepted": self.accepted,
            "seen": histories_to_plain(self.seen),
            "epsilon_max": self.epsilon_max,
            "spent": self.spent,
            "user_epsilon": self.user_epsilon,
            "user_head": None if self.user_head is None else self.user_head.to_plain(),
            "outstanding": self.outstanding,
            "clock": context.clock.save(),
            "config": deciding_fields(self.setup.config),
        }
        checkpoint = Checkpoint(self.state, rounds_done, context.log.sync(), self.setup.digest, facts)
        save_checkpoint(context.checkpoints, checkpoint, kept)


def told(epsilon: float | None) -> float | None:
    """An epsilon as events and artefacts have it: None where there is none, or none holds."""
    return None if epsilon is None or math.isinf(epsilon) else epsilon
