"""Taking in the replies of a round one by one: checked, summed, counted, written down, and forgotten.

One bad client costs its own update and nothing else. No task is summed twice, and no client twice in one round,
however many nodes answer in its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from fl_core import wire
from fl_core.errors import UpdateRejectedError, WireError, one_line
from fl_core.part_transforms import PART_TRANSFORMS, PartTransform, restored
from fl_core.parts import RMS_LOSS_PART, kind_of
from fl_core.process.structured_log import logged_with
from fl_core.runlog import RunLog
from fl_core.types import ClientUpdate, Part, RoundPlan
from fl_core.update import decode_update
from fl_server.nodes.mailbox import Reply
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import ExpectedUpdate
from fl_server.rounds.admission import check_spending, check_update
from fl_server.rounds.spending import ClientLedgers, largest, spent_unsummed, told_by
from fl_server.selection.base import ClientHistory
from strategies.base import StrategyState


@dataclass
class Tally:
    """Counts of one round."""

    asked: int = 0
    accepted: int = 0
    rejected: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    epsilon_max: float | None = None
    """Largest that any client has spent by a task that is over, whether its update was summed or not, as far as it is
    known; infinite once a summed update under DP told none, None where none is under DP."""
    summed: dict[str, str] = field(default_factory=dict)
    """Task_ids by client."""
    spent: dict[str, float] = field(default_factory=dict)
    """What the data of each client that was summed has spent, as far as it told."""
    staleness: dict[int, int] = field(default_factory=dict)
    """How many of the summed updates were so many versions old."""


@dataclass(frozen=True)
class Intake:
    """Where replies of one round go."""

    setup: Setup
    expected: ExpectedUpdate
    log: RunLog
    round: int
    accepted: Mapping[str, str]
    """The task_id of every client's last update that was summed before this round."""
    spent: Mapping[str, float]
    """What each client's data had spent then."""
    tally: Tally
    seen: dict[str, ClientHistory]
    transforms: Sequence[PartTransform] = PART_TRANSFORMS
    """What clients did to their parts, in their order; undone before anything is checked."""
    ledgers: ClientLedgers | None = None
    """Where the spending of updates that are not summed can be looked up; None on boards."""

    def take(self, reply: Reply, plan: RoundPlan, state: StrategyState) -> StrategyState:
        """The state with one reply admitted, or as it was, with an event that says why."""
        with logged_with(round=self.round, client_id=plan.client_id):
            return self._take(reply, plan, state)

    def _take(self, reply: Reply, plan: RoundPlan, state: StrategyState) -> StrategyState:
        client = plan.client_id
        before = self.seen.get(client, ClientHistory())
        if reply.content is None:
            if reply.missing:
                self.seen[client] = before.was_late(reply.seconds)
            self._say("client_missing" if reply.missing else "client_failed", client, reply.failure)
            self.count_unsummed(plan)
            return state
        if refusal := wire.refusal_of(reply.content):
            self._say("client_refused", client, refusal)
            self.count_unsummed(plan)
            return state
        claim: float | None = None
        try:
            encoded = wire.unpack_update(reply.content, f"client {client}")
            update = decode_update(encoded, f"client {client}")
            claim = update.epsilon
            update = replace(update, parts=restored(update.parts, self.transforms))
            self._check(update, plan)
            apart, update = split_off_unsummed(update)
            version = state.version
            state = self.setup.running_strategy.accumulate(state, update, self.round)
        except (UpdateRejectedError, WireError) as error:
            self.tally.rejected += 1
            self._say("client_rejected", client, str(error))
            self.count_unsummed(plan, claim)
            return state
        self.seen[client] = before.was_summed(self.round, reply.seconds, _loss_of(apart))
        self._count(update, plan, len(encoded), version - update.base_version)
        return state

    def count_surplus(self, reply: Reply, plan: RoundPlan) -> None:
        """Count what a reply says to have spent that came when enough were there; it is not summed."""
        claim = None
        with suppress(WireError):
            if reply.content is not None and not wire.refusal_of(reply.content):
                client = f"client {plan.client_id}"
                claim = decode_update(wire.unpack_update(reply.content, client), client).epsilon
        self.count_unsummed(plan, claim)

    def count_unsummed(self, plan: RoundPlan, claim: float | None = None) -> None:
        """Count what a task has spent that is over and whose update is not summed; ``claim`` is what it says itself."""
        spent = spent_unsummed(plan, claim, self.spent.get(plan.client_id), self.ledgers)
        self.tally.epsilon_max = largest(self.tally.epsilon_max, spent)

    def _check(self, update: ClientUpdate, plan: RoundPlan) -> None:
        check_update(update, plan, self.expected.parts, self.setup.config.round, self.expected.activations)
        check_spending(update, plan, self.spent.get(plan.client_id))
        if plan.client_id in self.tally.summed:
            raise UpdateRejectedError(f"update from client {plan.client_id}: expected one a round, got a second")
        if self.accepted.get(plan.client_id) == plan.task_id:
            raise UpdateRejectedError(f"update from client {plan.client_id}: task {plan.task_id} was summed before")

    def _count(self, update: ClientUpdate, plan: RoundPlan, uplink_bytes: int, staleness: int) -> None:
        tally, client = self.tally, plan.client_id
        tally.accepted += 1
        tally.summed[client] = plan.task_id
        tally.uplink_bytes += uplink_bytes
        tally.staleness[staleness] = tally.staleness.get(staleness, 0) + 1
        if plan.dp is not None:
            tally.epsilon_max = largest(tally.epsilon_max, told_by(update.epsilon))
            if update.epsilon is not None:
                tally.spent[client] = update.epsilon
        self.log.append(
            "client_finished",
            self.round,
            client_id=client,
            task_id=plan.task_id,
            uplink_bytes=uplink_bytes,
            local_steps=update.local_steps,
            epsilon=update.epsilon,
            staleness=staleness,
        )
        if update.simulated:
            figures = {name: update.simulated.get(name) for name in ("train_loss", "examples", "personal_score")}
            self.log.append("client_trained", self.round, "simulation", client_id=client, **figures)

    def _say(self, kind: str, client: str, reason: str) -> None:
        self.log.append(kind, self.round, client_id=client, reason=one_line(reason))  # a device may send any text


def split_off_unsummed(update: ClientUpdate) -> tuple[Mapping[str, Part], ClientUpdate]:
    """The parts that are of no use to a sum, and the update without them."""
    apart = {name: part for name, part in update.parts.items() if kind_of(name).summed == "never"}
    return apart, replace(update, parts={name: part for name, part in update.parts.items() if name not in apart})


def _loss_of(apart: Mapping[str, Part]) -> float | None:
    """The loss that a rule of selection asked for; None where it asked for none."""
    if RMS_LOSS_PART not in apart:
        return None
    (loss,) = apart[RMS_LOSS_PART].tensors.values()
    return float(loss[0])
