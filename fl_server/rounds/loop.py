"""The story of a run: enrol, then round after round, each from a checkpoint to the next.

    plan -> ask the cohort -> admit -> accumulate -> close (finish, evaluate) -> checkpoint -> publish

A round is over when its cohort has answered, when as many were accepted as are wanted, or at its deadline. Who is
still at work then is waited for no longer, and its reply is never summed. Artefacts follow their round in a thread of
their own; the run is over when all of them are there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from fl_core.process.structured_log import logged_with
from fl_core.runlog import RunLog, read_events
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.members import Enrolled, Members, Nodes
from fl_server.plan.checks import check_clients, check_delta
from fl_server.plan.describe import describe_data, describe_privacy
from fl_server.plan.found_in_attack import describe_attack
from fl_server.plan.private_terms import check_private_terms
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import expected_update
from fl_server.plan.user_privacy import describe_user_privacy, with_server_noise
from fl_server.results.evaluate import evaluate
from fl_server.results.model import Model, Moving, Nets
from fl_server.results.observer import Observer
from fl_server.results.publish import exports, publish_round
from fl_server.results.publisher import Publisher
from fl_server.rounds.asynchronous import run_asynchronous
from fl_server.rounds.checkpoint import Checkpoint, checkpoint_of, drop_unpublished, load_checkpoint
from fl_server.rounds.histograms import PaidRanges, histogram_ranges
from fl_server.rounds.in_vain import end_in_vain, end_without_any
from fl_server.rounds.progress import Progress, RunContext, told
from fl_server.rounds.run_identity import with_run_id
from fl_server.rounds.same_run import check_same_run
from fl_server.rounds.spending import ClientLedgers, largest
from fl_server.rounds.synchronous import run_round

ENROL_DEADLINE_S = 60.0
PUBLISHED = frozenset({"round_published", "artifact_published", "artifact_vetoed"})
"""Events of a round whose artefacts need no making up for; older versions wrote the last two alone."""


def run_rounds(
    exchange: Exchange,
    setup: Setup,
    run_dir: Path,
    log: RunLog,
    observe: Observer | None = None,
    enrolled: Enrolled | None = None,
    ledgers: ClientLedgers | None = None,
) -> None:
    """Run all rounds that are not done yet, from the checkpoint in ``run_dir`` if there is one.

    ``enrolled`` says which name each node must answer with, ``ledgers`` in a simulation what clients have spent.

    Raises:
        RoundError: fewer clients than ``round.min_clients`` could be reached.
        NoUpdateError: no update of any client was ever accepted.
        RunFolderError: the checkpoint belongs to another config, or the log lacks events of its rounds.
        ConfigError: so few clients came that the strategy would never move.
        PrivacyError: every client refuses the first plan, or the server's own ledger is not the run's newest one.
    """
    started = time.monotonic()
    setup = with_run_id(setup, run_dir)
    nets = Nets(setup.spec, setup.config.run.seed)
    expected = expected_update(setup, nets.parameters, nets.running)
    with Publisher(partial(publish_round, nets=nets, log=log, observe=observe)) as publisher:
        context = RunContext(exchange, run_dir, log, observe, nets, expected, publisher, ledgers)
        progress = _run(context, setup, enrolled)
    end_without_any(context, progress)
    rounds = setup.config.run.rounds
    # Whoever trained for nothing at the very end has spent too.
    spent = largest(progress.epsilon_max, ledgers.most() if ledgers is not None and setup.config.privacy else None)
    log.append("run_finished", rounds, rounds_done=rounds, seconds=time.monotonic() - started, epsilon_max=told(spent))
    log.sync()
    drop_unpublished(run_dir / "checkpoint")


def _run(context: RunContext, setup: Setup, enrolled: Enrolled | None) -> Progress:
    """Every round from the last checkpoint on, up to the last one's; its artefacts may still be in the making."""
    members = Members(context.exchange, setup.selection.uses_device, enrolled)
    limits = setup.config.round
    nodes = members.gather(min(limits.deadline_s, ENROL_DEADLINE_S), limits.min_clients)
    checkpoint = load_checkpoint(context.checkpoints)
    if checkpoint is not None:
        check_same_run(context.run_dir, setup.config, checkpoint)
    head = None if checkpoint is None else Progress.of(setup, checkpoint).user_head
    noisy = with_server_noise(setup, context.run_dir, context.expected.parts, head)
    progress = _begin(context, setup, nodes) if checkpoint is None else _resume(context, setup, checkpoint)
    progress, rounds_done = replace(progress, setup=noisy), 0 if checkpoint is None else checkpoint.rounds_done
    if "asynchronous" in setup.strategy.traits:
        return run_asynchronous(context, members, progress, rounds_done)
    for round in range(rounds_done + 1, setup.config.run.rounds + 1):
        with logged_with(round=round):
            progress = run_round(context, members, progress, round)
            end_in_vain(context, progress, round)
            progress = progress.keep(context, round)
    return progress


def _begin(context: RunContext, setup: Setup, nodes: Nodes) -> Progress:
    """Write down what is going to run; the untrained model is the progress of round 0."""
    check_clients(setup.config, setup.strategy, len(nodes))
    check_delta(setup.config, nodes.values())
    check_private_terms(setup.config, nodes.values())
    context.log.truncate(0)
    state = setup.initial_state()
    model = Model(setup.spec, state.model)
    first = _first_ranges(context, setup, model, nodes)
    model = replace(model, moving=Moving(first.ranges))
    config = setup.config
    context.log.append(
        "run_started",
        0,
        clients=sorted(info.client_id for info in nodes.values()),
        rounds=config.run.rounds,
        strategy=config.strategy.name or config.strategy.factory,
        model=config.model.name or config.model.factory,
        seed=config.run.seed,
        privacy=describe_privacy(setup, nodes.values()),
        epsilon_max=told(first.epsilon_max),
        user_privacy=describe_user_privacy(setup),
        weight_bits=config.quant.weight_bits,
        ranges=config.quant.ranges,
        client_bits=dict(sorted(config.quant.client_bits.items())),
        data=describe_data(setup),
        attack=describe_attack(config.simulation.attack, (info.client_id for info in nodes.values())),
        initial=evaluate(setup, context.nets, model, 0),
        findings=[finding.to_plain() for finding in setup.findings],
    )
    return Progress(setup, model, state, epsilon_max=first.epsilon_max, spent=first.spent).keep(context, 0)


def _first_ranges(context: RunContext, setup: Setup, model: Model, nodes: Nodes) -> PaidRanges:
    """Activation ranges of the untrained model, where they are measured before round 1, and what they cost."""
    kind, public = setup.config.quant.ranges, setup.data.public
    if kind == "public" and public is not None:
        return PaidRanges(context.nets.calibrated(model, public.x))
    if kind == "dp_histogram":
        names = context.nets.measured(model)
        return histogram_ranges(context.exchange, setup, context.log, nodes, model, names, context.ledgers)
    return PaidRanges(model.moving.ranges)


def _resume(context: RunContext, setup: Setup, checkpoint: Checkpoint) -> Progress:
    """Go back to a checkpoint, and have the artefacts made that were not out yet when the run ended."""
    done = checkpoint.rounds_done
    context.log.truncate(checkpoint.seq)
    out = {event["round"] for event in read_events(context.log.folder) if event["kind"] in PUBLISHED}
    missing = [round for round in range(1, done + 1) if exports(setup.config, round) and round not in out]
    context.log.append("run_resumed", done, rounds_done=done)
    if checkpoint.facts["clock"] is not None:
        context.clock.restore(checkpoint.facts["clock"])
    for round in missing:
        found = checkpoint_of(context.checkpoints, round)
        then = None if found is None else Progress.of(setup, found)
        if then is not None and then.publishes(round):
            context.publisher.submit(then.publication(round))
    return replace(Progress.of(setup, checkpoint), unpublished=frozenset(missing))
