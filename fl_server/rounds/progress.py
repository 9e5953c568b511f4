"""Where a run happens, and how far it is between two rounds: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.runlog import RunLog
from fl_server.nodes.clock import Clock
from fl_server.nodes.exchange import Exchange
from fl_server.plan.setup import Setup
from fl_server.results.publish import Published
from fl_server.rounds.checkpoint import Checkpoint, save_checkpoint
from fl_server.selection.base import Seen, seen_from_plain, seen_to_plain
from strategies.base import StrategyState

Observer = Callable[["RoundView"], None]


@dataclass(frozen=True)
class RoundView:
    """What a simulator may look at after a round; on boards nobody does."""

    setup: Setup
    round: int
    published: tuple[Published, ...]
    log: RunLog


@dataclass(frozen=True)
class RunContext:
    """Where a run happens."""

    exchange: Exchange
    run_dir: Path
    log: RunLog
    observe: Observer | None

    @property
    def clock(self) -> Clock:
        """What the deadlines go by."""
        return self.exchange.clock


@dataclass(frozen=True)
class Progress:
    """A run between two rounds: what its checkpoint holds."""

    setup: Setup
    """With the activation ranges of now."""
    state: StrategyState
    accepted: Mapping[str, str] = field(default_factory=dict)
    """The task_id of every client's last update that was summed."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    epsilon_max: float | None = None
    """The largest that any client had spent when its update was summed; None without DP, see ``Tally``."""
    outstanding: tuple[Mapping[str, Any], ...] = ()
    """Tasks that are under way between two versions of an asynchronous run, as plain values."""

    @classmethod
    def of(cls, setup: Setup, checkpoint: Checkpoint) -> Progress:
        """What a checkpoint says."""
        facts = checkpoint.facts
        return cls(
            setup.with_ranges(facts["ranges"]),
            checkpoint.state,
            facts["accepted"],
            seen_from_plain(facts["seen"]),
            facts["epsilon_max"],
            tuple(facts["outstanding"]),
        )

    def save(self, place: RunContext, rounds_done: int) -> Checkpoint:
        """Make it the newest checkpoint."""
        facts = {
            "ranges": self.setup.spec.ranges,
            "accepted": self.accepted,
            "seen": seen_to_plain(self.seen),
            "epsilon_max": self.epsilon_max,
            "outstanding": self.outstanding,
            "clock": place.clock.save(),
        }
        checkpoint = Checkpoint(self.state, rounds_done, place.log.sync(), self.setup.digest, facts)
        save_checkpoint(place.run_dir / "checkpoint", checkpoint)
        return checkpoint
