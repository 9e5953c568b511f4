"""One synchronous round: plan, ask the cohort, admit, accumulate, close.

A round is over when its cohort has answered, when as many were accepted as are wanted, or at its deadline. Who is
still at work then is waited for no longer, and its reply is never summed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from fl_core import wire
from fl_core.questions import TRAIN
from fl_core.rng import generator
from fl_core.tree import count_bytes, digest
from fl_core.types import ClientInfo, RoundPlan
from fl_server.nodes.mailbox import Reply, ask_in_batches
from fl_server.nodes.members import Members, Nodes
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from fl_server.plan.user_privacy import central_cohort
from fl_server.rounds.close import RoundOutcome, close_round
from fl_server.rounds.intake import Intake, Tally
from fl_server.rounds.progress import Progress, RunContext
from fl_server.selection.base import Candidate, ClientHistory, HistoryByClient
from fl_server.selection.chosen import chosen_by
from strategies.base import StrategyState
from strategies.client import join_tensors

_LOOK_S = 1.0
"""Between two looks for nodes that were connected."""


@dataclass(frozen=True)
class _Cohort:
    """The tasks of a round, by node id, and when enough of them were answered."""

    plans: Mapping[int, RoundPlan]
    contents: Mapping[int, wire.Content]
    wanted: int
    """With so many accepted updates nobody is waited for any more."""
    quorum: int
    """With fewer, nodes that come back are asked again."""


def run_round(context: RunContext, members: Members, progress: Progress, round: int) -> Progress:
    """One synchronous round: from the progress before it to the progress after it."""
    started = time.monotonic()
    setup, state, seen = progress.setup, progress.state, dict(progress.seen)
    limits = setup.config.round
    nodes = members.wait_for(limits.min_clients, limits.deadline_s)
    wanted, asked = select_cohort(setup, nodes, seen, round)
    sent = join_tensors(state.model, setup.running_strategy.broadcast(state, round))
    ranges, same = progress.model.moving.ranges, digest(sent)
    plans = {
        node_id: plan_of(setup, info, round, state.version, ranges, same, progress.accepted.get(info.client_id))
        for node_id, info in asked.items()
    }
    context.log.append("round_started", round, cohort=[plan.client_id for plan in plans.values()])
    members.say_left_out(context.log, round)
    for plan in plans.values():
        seen[plan.client_id] = seen.get(plan.client_id, ClientHistory()).was_asked()
    tally = Tally(asked=len(plans), downlink_bytes=len(plans) * count_bytes(sent))
    known = progress.accepted, progress.spent
    intake = Intake(setup, context.expected, context.log, round, *known, tally, seen, ledgers=context.ledgers)
    model = wire.pack_tensors(sent)
    contents = {node_id: wire.pack_task(plan, model) for node_id, plan in plans.items()}
    # Whether there were enough would say something of each client: noise for whole clients is released regardless.
    share = 0.0 if progress.releases_regardless else limits.quorum
    quorum = math.ceil(share * min(wanted, len(plans)))
    state, working = _collect(context, intake, _Cohort(plans, contents, wanted, quorum), state)
    reason = f"{tally.accepted} others were quicker"
    for plan in sorted((plans[node_id] for node_id in working), key=lambda plan: plan.client_id):
        context.log.append("client_dropped", round, client_id=plan.client_id, reason=reason)
        intake.count_unsummed(plan)
    return close_round(context, progress, RoundOutcome(round, state, tally, seen, nodes, started, quorum))


def _collect(
    context: RunContext, intake: Intake, cohort: _Cohort, state: StrategyState
) -> tuple[StrategyState, set[int]]:
    """Ask, and take in what comes until the round is over; gives the state, and the nodes that are still at work.

    A node that loses its connection costs its own update. Where too few for the quorum are left, those that come back
    before the deadline are asked again, with the same tasks.
    """
    setup, tally, plans = intake.setup, intake.tally, cohort.plans
    ends_s = context.clock.now_s() + setup.config.round.deadline_s
    left, working, away = set(plans), set[int](), dict[int, Reply]()
    while left:
        working, left_s = left, ends_s - context.clock.now_s()
        tasks = {node_id: content for node_id, content in cohort.contents.items() if node_id in left}
        with closing(ask_in_batches(context.exchange, TRAIN, tasks, str(intake.round), left_s)) as batches:
            for batch in batches:
                enough = False
                for reply in batch:
                    if enough:
                        intake.count_surplus(reply, plans[reply.node_id])
                        continue
                    working.remove(reply.node_id)
                    if reply.away:
                        away[reply.node_id] = reply
                    else:
                        state = intake.take(reply, plans[reply.node_id], state)
                    enough = bool(working) and (
                        tally.accepted >= cohort.wanted or setup.running_strategy.ready(state, intake.round)
                    )
                if enough:
                    break
        left = _back(context, away, ends_s) if tally.accepted < cohort.quorum and not working else set()
        for node_id in left:
            del away[node_id]
    for node_id, reply in away.items():
        state = intake.take(reply, plans[node_id], state)
    return state, working


def _back(context: RunContext, away: Mapping[int, Reply], ends_s: float) -> set[int]:
    """The first of these nodes to be connected again; none where that does not come in time."""
    while away and context.clock.now_s() < ends_s:
        context.clock.pause(_LOOK_S, ends_s)
        if back := away.keys() & context.exchange.nodes():
            return set(back)
    return set()


def select_cohort(
    setup: Setup, nodes: Nodes, seen: HistoryByClient, round: int
) -> tuple[int, Mapping[int, ClientInfo]]:
    """How many updates a round wants, and the nodes that are asked, in the order of their client_ids."""
    clients = setup.config.clients
    wanted = clients.per_round or len(nodes)
    node_of = {info.client_id: node_id for node_id, info in nodes.items()}
    drawn = central_cohort(setup, sorted(node_of), round)
    if drawn is not None:
        return len(drawn), {node_of[name]: nodes[node_of[name]] for name in drawn}
    candidates = [Candidate(nodes[node_of[name]], seen.get(name, ClientHistory())) for name in sorted(node_of)]
    draw = generator("cohort", setup.config.run.seed, round)
    most = math.ceil(wanted * clients.over_select)
    chosen = chosen_by(setup.selection, clients.selection, candidates, most, round, draw)
    return wanted, {node_of[each.client_id]: each.info for each in chosen}
