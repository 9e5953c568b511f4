"""Asynchronous rounds: every free client gets the newest model at once, and nobody waits for a slow one.

Replies are summed as they come. When the strategy has enough of them (its buffer is full) the version is closed as a
round is: finish, evaluate, checkpoint, publish; in events and in ``run.rounds`` a round is a version. Each task has
a deadline of its own. A version ends without a full buffer when nobody is left to fill it, or at its deadline.

A client trains a version at most once, so a task_id, its noise and its budget are spent once, and a client takes part
in at most as many tasks as there are versions, which is what the noise of private training is made for.

What happens to tasks that are under way when the server dies: the checkpoint has their plans and the folder ``sent``
the models they start from. After resume each is asked again word for word. A client that is done sends its stored
reply; one that is not trains again from the same weights. Tasks that were summed are in the checkpoint as summed and
are neither asked again nor taken.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fl_core import wire
from fl_core.questions import TRAIN
from fl_core.rng import generator
from fl_core.tree import count_bytes, digest
from fl_core.types import DpTerms, RoundPlan, Tensors
from fl_server.nodes.mailbox import Mailbox, Reply
from fl_server.nodes.members import Members, Nodes
from fl_server.plan.tasks import plan_of
from fl_server.rounds.close import RoundOutcome, close_round
from fl_server.rounds.in_vain import end_in_vain
from fl_server.rounds.intake import Intake, Tally
from fl_server.rounds.progress import Progress, RunContext
from fl_server.rounds.sent_models import SentModels
from fl_server.selection.base import Candidate, ClientHistory
from fl_server.selection.chosen import chosen_by
from strategies.client import join_tensors


@dataclass(frozen=True)
class Outstanding:
    """A task that is under way."""

    plan: RoundPlan
    sent_s: float

    def to_plain(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return {"plan": asdict(self.plan), "sent_s": self.sent_s}

    @classmethod
    def from_plain(cls, plain: Any) -> Outstanding:
        """What ``to_plain`` gave."""
        fields = dict(plain["plan"])
        dp = fields.pop("dp")
        return cls(RoundPlan(dp=None if dp is None else DpTerms(**dp), **fields), float(plain["sent_s"]))


@dataclass
class _UnderWay:
    """The tasks that are under way on the nodes, and what came back of them."""

    mail: Mailbox
    models: SentModels
    tasks: dict[int, Outstanding] = field(default_factory=dict)
    inbox: deque[Reply] = field(default_factory=deque)
    trained: set[str] = field(default_factory=set)
    """Clients that were asked to train the newest version."""
    draws: int = 0

    def content(self, node_id: int) -> wire.Content:
        """The task of a node, word for word as it was sent first."""
        plan = self.tasks[node_id].plan
        return wire.pack_task(plan, wire.pack_tensors(self.models.load(plan.base_version)))


def run_asynchronous(context: RunContext, members: Members, progress: Progress, versions_done: int) -> Progress:
    """Run all versions that are not done yet; gives the progress after the last.

    Raises:
        RoundError: nothing came in for as long as a version may take, from fewer clients than ``round.min_clients``.
        NoUpdateError: no update was ever accepted, and none will be.
    """
    under_way = _UnderWay(Mailbox(context.exchange), SentModels(context.checkpoints / "sent"))
    _ask_again(under_way, members, progress)
    needed = {task.plan.base_version for task in under_way.tasks.values()}
    for version in range(versions_done + 1, progress.setup.config.run.rounds + 1):
        progress = _run_version(context, members, under_way, progress, version)
        end_in_vain(context, progress, version)
        outstanding = tuple(task.to_plain() for _, task in sorted(under_way.tasks.items()))
        progress = replace(progress, outstanding=outstanding).keep(context, version)
        # The checkpoint before this one needs its models as long as it may be needed itself.
        before, needed = needed, {task.plan.base_version for task in under_way.tasks.values()}
        under_way.models.keep_only(before | needed)
    under_way.mail.close()
    return progress


def _run_version(
    context: RunContext, members: Members, under_way: _UnderWay, progress: Progress, version: int
) -> Progress:
    started = time.monotonic()
    setup, state = progress.setup, progress.state
    clock, deadline_s = under_way.mail.clock, setup.config.round.deadline_s
    ends_s = clock.now_s() + deadline_s
    tally = Tally()
    known = progress.accepted, progress.spent
    intake = Intake(
        setup, context.expected, context.log, version, *known, tally, dict(progress.seen), ledgers=context.ledgers
    )
    sent = join_tensors(state.model, setup.running_strategy.broadcast(state, version))
    under_way.models.save(state.version, sent)
    offer = _Offer(sent, digest(sent), version)
    under_way.trained.clear()
    under_way.draws = 0
    nodes = members.look(first=True)
    most = len(nodes)
    _hand_out(under_way, intake, progress, nodes, offer)
    cohort = sorted(task.plan.client_id for task in under_way.tasks.values())
    context.log.append("round_started", version, cohort=cohort)
    members.say_left_out(context.log, version)
    while not setup.running_strategy.ready(state, version):
        if not under_way.inbox:
            under_way.inbox.extend(under_way.mail.collect())
        if under_way.inbox:
            reply = under_way.inbox.popleft()
            state = intake.take(reply, under_way.tasks.pop(reply.node_id).plan, state)
        elif clock.now_s() >= ends_s or (not under_way.tasks and tally.accepted):
            break
        else:
            under_way.mail.wait(ends_s)
            nodes = members.look()
            most = max(most, len(nodes))
        if not setup.running_strategy.ready(state, version):
            _hand_out(under_way, intake, progress, nodes, offer)
    if not tally.accepted:
        members.check_enough(most, setup.config.round.min_clients, deadline_s)
    free = {n: info for n, info in nodes.items() if n not in under_way.tasks and info.client_id in tally.summed}
    return close_round(context, progress, RoundOutcome(version, state, tally, intake.seen, free, started))


@dataclass(frozen=True)
class _Offer:
    """The newest model, as every free client gets it."""

    sent: Tensors
    digest: str
    version: int


def _hand_out(under_way: _UnderWay, intake: Intake, progress: Progress, nodes: Nodes, offer: _Offer) -> None:
    """Give every free client the newest model, as far as ``clients.per_round`` allows."""
    setup = progress.setup
    busy = {task.plan.client_id for task in under_way.tasks.values()} | under_way.trained
    free = {i.client_id: n for n, i in nodes.items() if n not in under_way.tasks and i.client_id not in busy}
    places = (setup.config.clients.per_round or len(nodes)) - len(under_way.tasks)
    if not free or places <= 0:
        return
    candidates = [Candidate(nodes[free[name]], intake.seen.get(name, ClientHistory())) for name in sorted(free)]
    # The first draw of a version is named as that of a synchronous round.
    names = (offer.version, under_way.draws) if under_way.draws else (offer.version,)
    draw = generator("cohort", setup.config.run.seed, *names)
    under_way.draws += 1
    chosen = chosen_by(setup.selection, setup.config.clients.selection, candidates, places, offer.version, draw)
    contents = {}
    model = wire.pack_tensors(offer.sent)
    now_s = under_way.mail.clock.now_s()
    ranges = progress.model.moving.ranges
    for each in chosen:
        name = each.client_id
        summed = intake.tally.summed.get(name) or progress.accepted.get(name)
        plan = plan_of(setup, each.info, offer.version, progress.state.version, ranges, offer.digest, summed)
        under_way.tasks[free[name]] = Outstanding(plan, now_s)
        under_way.trained.add(name)
        intake.seen[name] = each.seen.was_asked()
        contents[free[name]] = wire.pack_task(plan, model)
    intake.tally.asked += len(contents)
    intake.tally.downlink_bytes += len(contents) * count_bytes(offer.sent)
    under_way.mail.send(TRAIN, contents, str(offer.version), setup.config.round.deadline_s, under_way.content)


def _ask_again(under_way: _UnderWay, members: Members, progress: Progress) -> None:
    """Ask all that were under way again; a client that is not there now has lost its task."""
    node_of = {info.client_id: node_id for node_id, info in members.look().items()}
    for task in sorted(map(Outstanding.from_plain, progress.outstanding), key=lambda task: task.sent_s):
        node_id = node_of.get(task.plan.client_id)
        if node_id is None:
            continue
        under_way.tasks[node_id] = task
        content, deadline_s = {node_id: under_way.content(node_id)}, progress.setup.config.round.deadline_s
        with under_way.mail.clock.again(task.sent_s):
            under_way.mail.send(TRAIN, content, str(task.plan.round), deadline_s, under_way.content)
