"""The end of a round, synchronous or asynchronous: from the sums of its updates to the progress after it.

    finish -> after-round steps -> evaluate -> say so in the events    (then: checkpoint -> publish)

The checkpoint comes last, so a round is either wholly done or done again from the same state, seeds and stored
replies, with the same result. Artefacts follow in a thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from fl_core import wire
from fl_core.errors import WireError
from fl_core.questions import EVALUATE
from fl_core.runlog import EventBatch
from fl_server.nodes.mailbox import ask
from fl_server.nodes.members import Nodes
from fl_server.plan.tasks import plan_of
from fl_server.plan.user_privacy import user_epsilon, user_head
from fl_server.results.after_round import AfterRound, after_round
from fl_server.results.evaluate import evaluate_widths, pool_scores, pool_widths, read_scores
from fl_server.results.observer import RoundView
from fl_server.results.ranges import clipped_by_layer
from fl_server.rounds.intake import Tally
from fl_server.rounds.progress import Progress, RunContext, told
from fl_server.rounds.spending import largest
from fl_server.selection.base import ClientHistory
from strategies.base import StrategyState


@dataclass(frozen=True)
class RoundOutcome:
    """A round that takes no more updates."""

    round: int
    state: StrategyState
    """With everything summed."""
    tally: Tally
    seen: Mapping[str, ClientHistory]
    nodes: Nodes
    """Who is asked for scores where the server has no test set."""
    started_s: float
    """By the wall's clock."""
    quorum: int | None = None
    """With fewer accepted updates the model stays as it was; None where any number will do."""

    def without_too_few(self) -> RoundOutcome:
        """Itself where the quorum was met, else a round of which nothing is summed."""
        if self.quorum is None or self.tally.accepted >= self.quorum:
            return self
        state = replace(self.state, sums={}, updates=())
        return replace(self, state=state, tally=replace(self.tally, summed={}, spent={}))


def close_round(context: RunContext, before: Progress, outcome: RoundOutcome) -> Progress:
    """The progress after a round, from the one before it."""
    outcome = outcome.without_too_few()
    setup, tally, round = before.setup, outcome.tally, outcome.round
    state = setup.running_strategy.finish(outcome.state, round)
    model = after_round(
        replace(before.model, tensors=state.model), AfterRound(setup, context.nets, round, outcome.state)
    )
    state = replace(state, model=dict(model.tensors))
    # A client of an earlier cohort may have spent more than any of this one, and the model is of both.
    spent = largest(before.epsilon_max, tally.epsilon_max)
    after = replace(
        before, model=model, state=state, accepted={**before.accepted, **tally.summed}, seen=outcome.seen,
        epsilon_max=spent, spent={**before.spent, **tally.spent}, user_epsilon=user_epsilon(setup),
        user_head=user_head(setup), outstanding=(),
    )  # fmt: skip
    evaluation = evaluate_widths(setup, context.nets, model, round)
    if setup.data.test is None:
        evaluation = _ask_clients(context, after, outcome)
    _say_closed(context, after, outcome, evaluation)
    return after


def _say_closed(context: RunContext, after: Progress, outcome: RoundOutcome, evaluation: dict[str, Any] | None) -> None:
    setup, tally, round = after.setup, outcome.tally, outcome.round
    if context.observe is not None and not after.publishes(round):
        events = EventBatch()
        context.observe(RoundView(setup, round, after.model, context.nets, (), events))
        context.log.append_all(events)
    saved = context.clock.save()
    if saved is not None and saved["now_s"] > 0:  # else nothing in this fleet takes any time
        context.log.append("round_timed", round, "simulation", virtual_s=saved["now_s"])
    context.log.append(
        "round_finished",
        round,
        accepted=tally.accepted,
        rejected=tally.rejected,
        quorum=outcome.quorum,
        uplink_bytes=tally.uplink_bytes,
        downlink_bytes=tally.downlink_bytes,
        seconds=time.monotonic() - outcome.started_s,
        epsilon_max=told(tally.epsilon_max),
        user_epsilon=after.user_epsilon,
        staleness={str(versions): count for versions, count in sorted(tally.staleness.items())},
        evaluation=evaluation,
        clipped=clipped_by_layer(setup, context.nets, after.model, round),
    )


def _ask_clients(context: RunContext, after: Progress, outcome: RoundOutcome) -> dict[str, Any] | None:
    """The scores of a model on the clients' own held-out parts, but never so under DP."""
    setup, model = after.setup, after.model
    if setup.config.privacy is not None or "central_dp" in setup.strategy.traits:
        return None
    plans = {
        node_id: plan_of(setup, info, outcome.round, after.state.version, model.moving.ranges)
        for node_id, info in outcome.nodes.items()
    }
    packed = wire.pack_tensors(model.tensors)
    contents = {node_id: wire.pack_task(plan, packed) for node_id, plan in plans.items()}
    figures: dict[int, list[tuple[int, float, float]]] = {bits: [] for bits in setup.spec.quant.widths}
    deadline_s = setup.config.round.deadline_s
    for reply in ask(context.exchange, EVALUATE, contents, str(outcome.round), deadline_s):
        client = plans[reply.node_id].client_id
        try:
            if reply.content is None:
                raise WireError(reply.failure)
            scores = read_scores(wire.unpack_figures(reply.content, client))
            figures[setup.spec.quant.width_of(client)].append(scores)
        except WireError as error:
            context.log.append("client_unscored", outcome.round, client_id=client, reason=str(error))
    pooled = pool_scores(chain.from_iterable(figures.values()))
    return pooled and {**pooled, "widths": pool_widths(figures) if len(figures) > 1 else {}}
