"""The end of a round, the same for synchronous and asynchronous runs.

    finish -> measure ranges -> publish -> evaluate -> say so in the events -> checkpoint

The checkpoint comes last, so a round is either wholly done or done again from the same state, seeds and stored
replies, with the same result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from fl_core import wire
from fl_core.errors import WireError
from fl_core.models.weights import load_tensors
from fl_core.questions import EVALUATE
from fl_core.types import FloatArray
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.mailbox import ask
from fl_server.nodes.members import Nodes
from fl_server.plan.setup import Setup
from fl_server.plan.user_privacy import user_epsilon
from fl_server.results.evaluate import evaluate, evaluate_width, pool_scores, pool_widths, read_scores
from fl_server.results.publish import Published, publish, with_weights
from fl_server.results.ranges import mean_ranges, public_ranges
from fl_server.rounds.intake import Tally
from fl_server.rounds.progress import Progress, RoundView, RunContext
from fl_server.selection.base import Seen
from strategies.base import StrategyState


def close_round(
    place: RunContext, before: Progress, state: StrategyState, tally: Tally, seen: Mapping[str, Seen], nodes: Nodes,
    round: int, started: float, quorum: int | None,
) -> Progress:  # fmt: skip
    """From the state with everything summed to the progress after the round.

    ``nodes`` are asked for scores where the server has no test set; ``started`` is the wall's time of the start.
    With fewer accepted updates than ``quorum`` the model stays as it was.
    """
    setup = before.setup
    if quorum is not None and tally.accepted < quorum:
        state = replace(state, sums={}, updates=())
        tally.summed.clear()
    setup = setup.with_ranges(mean_ranges(state, setup.spec.ranges))
    state = setup.strategy.finish(state)
    load_tensors(setup.model, state.model)
    if setup.config.quant.ranges == "public":
        setup = setup.with_ranges(public_ranges(setup))
        load_tensors(setup.model, state.model)
    # A client of an earlier cohort may have spent more than any of this one, and the model is of both.
    spent = max((e for e in (before.epsilon_max, tally.epsilon_max) if e is not None), default=None)
    published = publish(setup, place.run_dir, round, _told(spent), place.log)
    evaluation = _evaluate(place.exchange, setup, nodes, state, round, published)
    if place.observe is not None:
        place.observe(RoundView(setup, round, published, place.log))
    saved = place.clock.save()
    if saved is not None and saved["now_s"] > 0:  # else nothing in this fleet takes any time
        place.log.append("round_timed", round, "simulation", virtual_s=saved["now_s"])
    place.log.append(
        "round_finished",
        round,
        accepted=tally.accepted,
        rejected=tally.rejected,
        quorum=quorum,
        uplink_bytes=tally.uplink_bytes,
        downlink_bytes=tally.downlink_bytes,
        seconds=time.monotonic() - started,
        epsilon_max=_told(tally.epsilon_max),
        user_epsilon=user_epsilon(setup),
        staleness={str(versions): count for versions, count in sorted(tally.staleness.items())},
        evaluation=evaluation,
    )
    return Progress(setup, state, {**before.accepted, **tally.summed}, seen, spent)


def _told(epsilon: float | None) -> float | None:
    """An epsilon as events and artefacts have it: None where there is none, or none holds."""
    return None if epsilon is None or math.isinf(epsilon) else epsilon


def _evaluate(
    exchange: Exchange, setup: Setup, nodes: Nodes, state: StrategyState, round: int, published: tuple[Published, ...]
) -> dict[str, Any] | None:
    """On the server's test set; where there is none, on the clients' own held-out parts, but never so under DP."""
    if setup.test is not None:
        int8 = {each.weight_bits: each.test_output for each in reversed(published)}
        main = evaluate(setup.task, setup.cache, setup.test, setup.groups, int8.get(setup.spec.quant.weight_bits))
        return main and {**main, "widths": _widths(setup, int8)}
    if setup.config.privacy is not None or "central_dp" in setup.strategy.traits:
        return None
    plans = {node_id: setup.plan(info, round, state.version) for node_id, info in nodes.items()}
    model = wire.pack_tensors(state.model)
    contents = {node_id: wire.pack_task(plan, model) for node_id, plan in plans.items()}
    figures: dict[int, list[tuple[int, float, float]]] = {bits: [] for bits in setup.widths}
    for reply in ask(exchange, EVALUATE, contents, str(round), setup.config.round.deadline_s):
        client = plans[reply.node_id].client_id
        with suppress(WireError):
            if reply.content is not None:
                scores = read_scores(wire.unpack_figures(reply.content, client))
                figures[setup.spec.quant.width_of(client)].append(scores)
    pooled = pool_scores(chain.from_iterable(figures.values()))
    return pooled and {**pooled, "widths": pool_widths(figures) if len(figures) > 1 else {}}


def _widths(setup: Setup, int8: Mapping[int, FloatArray | None]) -> dict[str, Any]:
    """By width, its figures on the server's test set; empty in a fleet of one width."""
    if len(setup.widths) < 2:
        return {}
    return {
        str(bits): evaluate_width(setup.task, own.cache, setup.test, int8.get(bits))
        for bits, own in with_weights(setup).items()
    }
