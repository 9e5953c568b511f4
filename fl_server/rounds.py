"""The story of a run: enrol, then round after round, each from a checkpoint to the next.

    plan -> ask the cohort -> admit -> accumulate -> finish -> publish -> evaluate -> checkpoint

The checkpoint comes last, so a round is either wholly done or done again from the same state, seeds and stored
replies, with the same result. One bad client costs its own update and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flwr.app import RecordDict
from flwr.serverapp import Grid

from fl_core import wire
from fl_core.assemble import load_tensors
from fl_core.errors import RoundError, RunFolderError, UpdateRejectedError, WireError
from fl_core.rng import generator
from fl_core.runlog import RunLog
from fl_core.tree import count_bytes, digest
from fl_core.types import ClientInfo, RoundPlan
from fl_core.update import decode_update
from fl_server.admission import check_update
from fl_server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fl_server.evaluate import evaluate, pool_scores, read_scores
from fl_server.exchange import Reply, ask
from fl_server.publish import Published, publish
from fl_server.ranges import histogram_ranges, mean_ranges, public_ranges
from fl_server.setup import Setup
from strategies.base import StrategyState
from strategies.client import join_tensors

ENROL_DEADLINE_S = 60.0
Observer = Callable[["RoundView"], None]


@dataclass(frozen=True)
class RoundView:
    """What a simulator may look at after a round; on boards nobody does."""

    setup: Setup
    round: int
    published: tuple[Published, ...]
    log: RunLog


@dataclass
class _Tally:
    """Counts of one round."""

    accepted: int = 0
    rejected: int = 0
    uplink_bytes: int = 0
    epsilon_max: float | None = None
    summed: dict[str, str] = field(default_factory=dict)
    """Task_ids by client."""


def run_rounds(grid: Grid, setup: Setup, run_dir: Path, log: RunLog, observe: Observer | None = None) -> None:
    """Run all rounds that are not done yet, from the checkpoint in ``run_dir`` if there is one.

    Raises:
        RoundError: no client could be reached at all.
        RunFolderError: the checkpoint belongs to another config.
    """
    started = time.monotonic()
    nodes = enrol(grid, {}, min(setup.config.round.deadline_s, ENROL_DEADLINE_S))
    if not nodes:
        raise RoundError("run: expected at least one client to answer, got none")
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    if checkpoint is None:
        log.truncate(0)
        checkpoint = _begin(grid, setup, run_dir, log, nodes)
    elif checkpoint.config_digest != setup.digest:
        raise RunFolderError(f"{run_dir}: its checkpoint belongs to another config; nothing was changed")
    else:
        log.truncate(checkpoint.seq)
        log.append("run_resumed", checkpoint.rounds_done, rounds_done=checkpoint.rounds_done)
    state = checkpoint.state
    setup = setup.with_ranges(checkpoint.facts["ranges"])
    accepted: dict[str, str] = dict(checkpoint.facts["accepted"])
    for round in range(checkpoint.rounds_done + 1, setup.config.run.rounds + 1):
        state, setup, summed = run_round(grid, setup, run_dir, log, nodes, state, round, accepted, observe)
        accepted |= summed
        facts = {"ranges": setup.spec.ranges, "accepted": accepted}
        save_checkpoint(run_dir / "checkpoint", Checkpoint(state, round, log.sync(), setup.digest, facts))
    rounds = setup.config.run.rounds
    log.append("run_finished", rounds, rounds_done=rounds, seconds=time.monotonic() - started)
    log.sync()


def _begin(grid: Grid, setup: Setup, run_dir: Path, log: RunLog, nodes: Mapping[int, ClientInfo]) -> Checkpoint:
    """Write down what is going to run, and the untrained model as the checkpoint of round 0."""
    state = setup.initial_state()
    load_tensors(setup.model, state.model)
    if setup.config.quant.ranges == "public":
        setup = setup.with_ranges(public_ranges(setup))
    elif setup.config.quant.ranges == "dp_histogram":
        setup = setup.with_ranges(histogram_ranges(grid, setup, log, nodes, state.model))
    load_tensors(setup.model, state.model)
    config = setup.config
    log.append(
        "run_started",
        0,
        clients=sorted(info.client_id for info in nodes.values()),
        rounds=config.run.rounds,
        strategy=config.strategy.name or config.strategy.factory,
        model=config.model.name or config.model.factory,
        seed=config.run.seed,
        privacy=setup.describe_privacy(nodes.values()),
        data=setup.describe_data(),
        initial=evaluate(setup.task, setup.cache, setup.test, setup.groups, None),
    )
    checkpoint = Checkpoint(state, 0, log.sync(), setup.digest, {"ranges": setup.spec.ranges, "accepted": {}})
    save_checkpoint(run_dir / "checkpoint", checkpoint)
    return checkpoint


def enrol(grid: Grid, known: Mapping[int, ClientInfo], deadline_s: float) -> dict[int, ClientInfo]:
    """The clients behind all nodes, by node id; only nodes that are not known yet are asked."""
    unknown = {node_id: RecordDict() for node_id in grid.get_node_ids() if node_id not in known}
    nodes = dict(known)
    for reply in ask(grid, "query", unknown, "enrol", deadline_s) if unknown else ():
        if reply.content is not None:
            with suppress(WireError):
                nodes[reply.node_id] = wire.unpack_info(reply.content, f"node {reply.node_id}")
    return nodes


def run_round(
    grid: Grid,
    setup: Setup,
    run_dir: Path,
    log: RunLog,
    nodes: Mapping[int, ClientInfo],
    state: StrategyState,
    round: int,
    accepted: Mapping[str, str],
    observe: Observer | None,
) -> tuple[StrategyState, Setup, dict[str, str]]:
    """One round: from the state before it to the state after it, and the setup with the ranges after it.

    ``accepted`` has the task_id of every client's last update that was summed; the new ones are given back.
    """
    started = time.monotonic()
    cohort = select_cohort(setup, nodes, round)
    sent = join_tensors(state.model, setup.strategy.broadcast(state))
    same = digest(sent)
    plans = {
        node_id: setup.plan(info, round, state.version, same, accepted.get(info.client_id))
        for node_id, info in ((node_id, nodes[node_id]) for node_id in cohort)
    }
    log.append("round_started", round, cohort=[plan.client_id for plan in plans.values()])
    model = wire.pack_tensors(sent)
    contents = {node_id: wire.pack_task(plan, model) for node_id, plan in plans.items()}
    tally = _Tally()
    for reply in ask(grid, "train", contents, str(round), setup.config.round.deadline_s):
        state = _take(reply, plans[reply.node_id], setup, log, state, tally)
        if setup.strategy.ready(state):
            break
    quorum = math.ceil(setup.config.round.quorum * len(plans))
    if tally.accepted < quorum:
        state = replace(state, sums={}, updates=())
        tally.summed.clear()
    setup = setup.with_ranges(mean_ranges(state.sums, setup.spec.ranges))
    state = setup.strategy.finish(state)
    load_tensors(setup.model, state.model)
    if setup.config.quant.ranges == "public":
        setup = setup.with_ranges(public_ranges(setup))
        load_tensors(setup.model, state.model)
    published = publish(setup, run_dir, round, tally.epsilon_max, log)
    evaluation = _evaluate(grid, setup, nodes, state, round, published)
    if observe is not None:
        observe(RoundView(setup, round, published, log))
    log.append(
        "round_finished",
        round,
        accepted=tally.accepted,
        rejected=tally.rejected,
        quorum=quorum,
        uplink_bytes=tally.uplink_bytes,
        downlink_bytes=len(plans) * count_bytes(sent),
        seconds=time.monotonic() - started,
        epsilon_max=tally.epsilon_max,
        evaluation=evaluation,
    )
    return state, setup, tally.summed


def select_cohort(setup: Setup, nodes: Mapping[int, ClientInfo], round: int) -> list[int]:
    """Node ids of this round's clients, in the order of their client_ids: drawn from the run's seed by name."""
    by_client = sorted(nodes, key=lambda node_id: nodes[node_id].client_id)
    wanted = setup.config.clients.per_round or len(by_client)
    if wanted >= len(by_client):
        return by_client
    rows = generator("cohort", setup.config.run.seed, round).choice(len(by_client), wanted, replace=False)
    return [by_client[row] for row in sorted(rows)]


def _take(
    reply: Reply, plan: RoundPlan, setup: Setup, log: RunLog, state: StrategyState, tally: _Tally
) -> StrategyState:
    """Admit one reply into the state, or say in the events why not."""
    client = plan.client_id
    if reply.content is None:
        kind = "client_missing" if reply.missing else "client_failed"
        log.append(kind, plan.round, client_id=client, reason=reply.failure)
        return state
    if wire.refusal_of(reply.content):
        log.append("client_refused", plan.round, client_id=client, reason=wire.refusal_of(reply.content))
        return state
    try:
        encoded = wire.unpack_update(reply.content, f"client {client}")
        update = decode_update(encoded, f"client {client}")
        check_update(update, plan, setup.expected_parts, setup.config.round, setup.ranges_asked)
        state = setup.strategy.accumulate(state, update)
    except (UpdateRejectedError, WireError) as error:
        tally.rejected += 1
        log.append("client_rejected", plan.round, client_id=client, reason=str(error))
        return state
    tally.accepted += 1
    tally.summed[client] = plan.task_id
    tally.uplink_bytes += len(encoded)
    if update.epsilon is not None:
        tally.epsilon_max = max(tally.epsilon_max or 0.0, update.epsilon)
    log.append(
        "client_finished",
        plan.round,
        client_id=client,
        uplink_bytes=len(encoded),
        local_steps=update.local_steps,
        epsilon=update.epsilon,
    )
    if update.simulated:
        figures = {name: update.simulated.get(name) for name in ("train_loss", "examples", "personal_score")}
        log.append("client_trained", plan.round, "simulation", client_id=client, **figures)
    return state


def _evaluate(
    grid: Grid,
    setup: Setup,
    nodes: Mapping[int, ClientInfo],
    state: StrategyState,
    round: int,
    published: tuple[Published, ...],
) -> dict[str, Any] | None:
    """On the server's test set; where there is none, on the clients' own held-out parts, but never so under DP."""
    if setup.test is not None:
        int8 = published[0].test_output if published else None
        return evaluate(setup.task, setup.cache, setup.test, setup.groups, int8)
    if setup.config.privacy is not None:
        return None
    plans = {node_id: setup.plan(info, round, state.version) for node_id, info in nodes.items()}
    model = wire.pack_tensors(state.model)
    contents = {node_id: wire.pack_task(plan, model) for node_id, plan in plans.items()}
    figures = []
    for reply in ask(grid, "evaluate", contents, str(round), setup.config.round.deadline_s):
        with suppress(WireError):
            if reply.content is not None:
                figures.append(read_scores(wire.unpack_figures(reply.content, plans[reply.node_id].client_id)))
    return pool_scores(figures)
