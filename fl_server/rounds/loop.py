"""The story of a run: enrol, then round after round, each from a checkpoint to the next.

    plan -> ask the cohort -> admit -> accumulate -> close (finish, publish, evaluate, checkpoint)

A round is over when its cohort has answered, when as many were accepted as are wanted, or at its deadline. Who is
still at work then is waited for no longer, and its reply is never summed.
"""

from __future__ import annotations

import time
from pathlib import Path

from fl_core.errors import RunFolderError
from fl_core.models.weights import load_tensors
from fl_core.process.structured_log import logged_with
from fl_core.runlog import RunLog
from fl_server.nodes.exchange import Exchange
from fl_server.nodes.members import Enrolled, Members, Nodes
from fl_server.plan.forbidden import check_clients
from fl_server.plan.setup import Setup
from fl_server.plan.user_privacy import describe_user_privacy, with_server_noise
from fl_server.results.evaluate import evaluate
from fl_server.results.ranges import histogram_ranges, public_ranges
from fl_server.rounds.asynchronous import run_asynchronous
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.progress import Observer, Progress, RunContext
from fl_server.rounds.synchronous import run_round

ENROL_DEADLINE_S = 60.0


def run_rounds(
    exchange: Exchange,
    setup: Setup,
    run_dir: Path,
    log: RunLog,
    observe: Observer | None = None,
    enrolled: Enrolled | None = None,
) -> None:
    """Run all rounds that are not done yet, from the checkpoint in ``run_dir`` if there is one.

    ``enrolled`` says which name each node must answer with.

    Raises:
        RoundError: fewer clients than ``round.min_clients`` could be reached.
        RunFolderError: the checkpoint belongs to another config.
        ConfigError: so few clients came that the strategy would never move.
    """
    started = time.monotonic()
    place = RunContext(exchange, run_dir, log, observe)
    roster = Members(exchange, setup.selection.uses_device, enrolled)
    limits = setup.config.round
    nodes = roster.gather(min(limits.deadline_s, ENROL_DEADLINE_S), limits.min_clients)
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    if checkpoint is None:
        check_clients(setup.config, setup.strategy, len(nodes))
        log.truncate(0)
        checkpoint = _begin(place, setup, nodes).save(place, 0)
    elif checkpoint.config_digest != setup.digest:
        raise RunFolderError(f"{run_dir}: its checkpoint belongs to another config; nothing was changed")
    else:
        log.truncate(checkpoint.seq)
        log.append("run_resumed", checkpoint.rounds_done, rounds_done=checkpoint.rounds_done)
    if checkpoint.facts["clock"] is not None:
        place.clock.restore(checkpoint.facts["clock"])
    progress = Progress.of(with_server_noise(setup, run_dir), checkpoint)
    if "asynchronous" in setup.strategy.traits:
        run_asynchronous(place, roster, progress, checkpoint.rounds_done)
    else:
        for round in range(checkpoint.rounds_done + 1, setup.config.run.rounds + 1):
            with logged_with(round=round):
                progress = run_round(place, roster, progress, round)
                progress.save(place, round)
    rounds = setup.config.run.rounds
    log.append("run_finished", rounds, rounds_done=rounds, seconds=time.monotonic() - started)
    log.sync()


def _begin(place: RunContext, setup: Setup, nodes: Nodes) -> Progress:
    """Write down what is going to run; the untrained model is the progress of round 0."""
    state = setup.initial_state()
    load_tensors(setup.model, state.model)
    if setup.config.quant.ranges == "public":
        setup = setup.with_ranges(public_ranges(setup))
    elif setup.config.quant.ranges == "dp_histogram":
        setup = setup.with_ranges(histogram_ranges(place.exchange, setup, place.log, nodes, state.model))
    load_tensors(setup.model, state.model)
    config = setup.config
    place.log.append(
        "run_started",
        0,
        clients=sorted(info.client_id for info in nodes.values()),
        rounds=config.run.rounds,
        strategy=config.strategy.name or config.strategy.factory,
        model=config.model.name or config.model.factory,
        seed=config.run.seed,
        privacy=setup.describe_privacy(nodes.values()),
        user_privacy=describe_user_privacy(setup),
        weight_bits=config.quant.weight_bits,
        client_bits=dict(sorted(config.quant.client_bits.items())),
        data=setup.describe_data(),
        initial=evaluate(setup.task, setup.cache, setup.test, setup.groups, None),
    )
    return Progress(setup, state)
