"""A run of which nothing comes: when it ends, and in whose words.

While no update was ever summed the model is the untrained one, so nothing is published. Such a run ends as soon as so
many clients, or a crowd of them, have shown that asking again is of no use that no round can be one that counts; at the
latest after its last round. It leaves no checkpoint: nothing was learned, so a resumed run asks for all of its rounds
again, under the same task_ids.

    a client refused                      of no use: its owner has to change something
    a client failed, or was rejected      of no use in a simulation; on a board after ``PATIENCE_ROUNDS`` rounds, for
                                          its trainer may just be starting
    a client gave no answer               it may come back

With noise for whole clients the release of a round, and how many there are, says nothing of who answered: such a run
has all of its rounds and is published, and only then is told that nobody's data is in it.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter

from fl_core.errors import NoUpdateError
from fl_core.runlog import read_events
from fl_server.plan.setup import Setup
from fl_server.rounds.progress import Progress, RunContext
from fl_server.watch.left_out import by_reason, lines_of
from fl_server.watch.state import RunState, state_of

ENOUGH_CLIENTS = 10
"""Where so many have failed, and nobody succeeded, nobody else is waited for."""
PATIENCE_ROUNDS = 3
REFUSED, UNFIT = "client_refused", ("client_failed", "client_rejected")


def end_in_vain(context: RunContext, progress: Progress, round: int) -> None:
    """Return where an update was accepted by the end of ``round``, or where one may still come.

    Raises:
        NoUpdateError: none was, and none will; with the clients' reasons.
    """
    if progress.accepted or progress.releases_regardless:
        return
    state = state_of(read_events(context.log.folder))
    rounds, simulated = progress.setup.config.run.rounds, progress.setup.simulated
    if round < rounds and not is_hopeless(state, simulated, least_accepted(progress.setup, len(state.clients))):
        return
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    raise nothing_came(state)


def end_without_any(context: RunContext, progress: Progress) -> None:
    """Return where the model of a run whose rounds are all done and published is that of at least one client.

    Raises:
        NoUpdateError: clients were asked, and no update of any was ever accepted; with the clients' reasons.
    """
    if progress.accepted:
        return
    state = state_of(read_events(context.log.folder))
    if by_reason(state.mishaps):
        raise nothing_came(state)


def least_accepted(setup: Setup, clients: int) -> int:
    """With fewer updates no round of so many ``clients`` counts; 1 where a round asks some of them alone."""
    every = setup.config.clients.per_round is None and "asynchronous" not in setup.strategy.traits
    return math.ceil(setup.config.round.quorum * clients) if every else 1


def is_hopeless(state: RunState, simulated: bool, least: int = 1) -> bool:
    """Whether fewer clients than ``least`` are worth asking again, or ``ENOUGH_CLIENTS`` are not and none ever was."""
    patience = 1 if simulated else PATIENCE_ROUNDS
    refused = {each.who for each in state.mishaps if each.kind == REFUSED}
    unfit = Counter(each.who for each in state.mishaps if each.kind in UNFIT and each.round > 0)
    given_up = refused | {client for client, rounds in unfit.items() if rounds >= patience}
    given_up -= {client.client_id for client in state.clients.values() if client.updates}
    too_few = bool(given_up) and len(state.clients) - len(given_up) < least
    return too_few or (not state.updates and len(given_up) >= ENOUGH_CLIENTS)


def nothing_came(state: RunState) -> NoUpdateError:
    """The error that says so, with a line for each reason; the only one stands in the first line."""
    rounds = len(state.finished_rounds())
    missed = "too few updates for round.quorum were" if state.updates else "no update was"
    begin = f"run {state.name}: {missed} accepted in {rounds} round{'s' if rounds > 1 else ''}, so nothing was trained"
    reasons = lines_of(by_reason(state.mishaps).values(), len(state.clients)) or [_without_mishap(state)]
    return NoUpdateError(f"{begin}: {reasons[0]}" if len(reasons) == 1 else [begin, *reasons])


def _without_mishap(state: RunState) -> str:
    """Why nothing came where no client was left out for a reason of its own."""
    if any(each.cohort for each in state.rounds.values()):
        return "no client failed, and the strategy's ready ended each round before as many as wanted had answered"
    return "no client was asked"
