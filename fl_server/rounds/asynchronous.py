"""Asynchronous rounds: every free client gets the newest model at once, and nobody waits for a slow one.

Replies are summed as they come. When the strategy has enough of them (its buffer is full) the version is closed as a
round is: finish, publish, evaluate, checkpoint; in events and in ``run.rounds`` a round is a version. Each task has
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fl_core import wire
from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_core.questions import TRAIN
from fl_core.rng import generator
from fl_core.tree import count_bytes, digest
from fl_core.types import DpTerms, FloatArray, RoundPlan, Tensors
from fl_server.nodes.mailbox import Mailbox, Reply
from fl_server.nodes.members import Members, Nodes, enough
from fl_server.rounds.close import close_round
from fl_server.rounds.intake import Intake, Tally
from fl_server.rounds.progress import Progress, RunContext
from fl_server.selection.base import Candidate, Seen
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
class _Floor:
    """What is under way on the nodes."""

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


def run_asynchronous(place: RunContext, roster: Members, progress: Progress, versions_done: int) -> None:
    """Run all versions that are not done yet.

    Raises:
        RoundError: nothing came in for as long as a version may take, from fewer clients than ``round.min_clients``.
    """
    floor = _Floor(Mailbox(place.exchange), SentModels(place.run_dir / "checkpoint" / "sent"))
    _ask_again(floor, roster, progress)
    needed = {task.plan.base_version for task in floor.tasks.values()}
    for version in range(versions_done + 1, progress.setup.config.run.rounds + 1):
        progress = _run_version(place, roster, floor, progress, version)
        progress = replace(progress, outstanding=tuple(task.to_plain() for _, task in sorted(floor.tasks.items())))
        progress.save(place, version)
        # The checkpoint before this one needs its models as long as it may be needed itself.
        before, needed = needed, {task.plan.base_version for task in floor.tasks.values()}
        floor.models.keep_only(before | needed)
    floor.mail.close()


def _run_version(place: RunContext, roster: Members, floor: _Floor, progress: Progress, version: int) -> Progress:
    started = time.monotonic()
    setup, state = progress.setup, progress.state
    clock, deadline_s = floor.mail.clock, setup.config.round.deadline_s
    ends_s = clock.now_s() + deadline_s
    tally = Tally()
    intake = Intake(setup, place.log, version, progress.accepted, tally, dict(progress.seen))
    sent = join_tensors(state.model, setup.strategy.broadcast(state))
    floor.models.save(state.version, sent)
    offer = _Offer(sent, digest(sent), version)
    floor.trained.clear()
    floor.draws = 0
    nodes = roster.look(first=True)
    most = len(nodes)
    _hand_out(floor, intake, progress, nodes, offer)
    cohort = sorted(task.plan.client_id for task in floor.tasks.values())
    place.log.append("round_started", version, cohort=cohort)
    roster.say_impostors(place.log, version)
    while not setup.strategy.ready(state):
        if not floor.inbox:
            floor.inbox.extend(floor.mail.collect())
        if floor.inbox:
            reply = floor.inbox.popleft()
            state = intake.take(reply, floor.tasks.pop(reply.node_id).plan, state)
        elif clock.now_s() >= ends_s or (not floor.tasks and tally.accepted):
            break
        else:
            floor.mail.wait(ends_s)
            nodes = roster.look()
            most = max(most, len(nodes))
        if not setup.strategy.ready(state):
            _hand_out(floor, intake, progress, nodes, offer)
    if not tally.accepted:
        enough(most, setup.config.round.min_clients, deadline_s)
    free = {n: info for n, info in nodes.items() if n not in floor.tasks and info.client_id in tally.summed}
    return close_round(place, progress, state, tally, intake.seen, free, version, started, None)


@dataclass(frozen=True)
class _Offer:
    """The newest model, as every free client gets it."""

    sent: Tensors
    digest: str
    version: int


def _hand_out(floor: _Floor, intake: Intake, progress: Progress, nodes: Nodes, offer: _Offer) -> None:
    """Give every free client the newest model, as far as ``clients.per_round`` allows."""
    setup = progress.setup
    busy = {task.plan.client_id for task in floor.tasks.values()} | floor.trained
    free = {i.client_id: n for n, i in nodes.items() if n not in floor.tasks and i.client_id not in busy}
    places = (setup.config.clients.per_round or len(nodes)) - len(floor.tasks)
    if not free or places <= 0:
        return
    candidates = [Candidate(nodes[free[name]], intake.seen.get(name, Seen())) for name in sorted(free)]
    # The first draw of a version is named as that of a synchronous round.
    names = (offer.version, floor.draws) if floor.draws else (offer.version,)
    draw = generator("cohort", setup.config.run.seed, *names)
    floor.draws += 1
    chosen = setup.selection.choose(candidates, places, offer.version, draw)
    contents = {}
    model = wire.pack_tensors(offer.sent)
    now_s = floor.mail.clock.now_s()
    for each in chosen:
        name = each.client_id
        summed = intake.tally.summed.get(name) or progress.accepted.get(name)
        plan = setup.plan(each.info, offer.version, progress.state.version, offer.digest, summed)
        floor.tasks[free[name]] = Outstanding(plan, now_s)
        floor.trained.add(name)
        intake.seen[name] = each.seen.was_asked()
        contents[free[name]] = wire.pack_task(plan, model)
    intake.tally.asked += len(contents)
    intake.tally.downlink_bytes += len(contents) * count_bytes(offer.sent)
    floor.mail.send(TRAIN, contents, str(offer.version), setup.config.round.deadline_s, floor.content)


def _ask_again(floor: _Floor, roster: Members, progress: Progress) -> None:
    """Ask all that were under way again; a client that is not there now has lost its task."""
    node_of = {info.client_id: node_id for node_id, info in roster.look().items()}
    for task in sorted(map(Outstanding.from_plain, progress.outstanding), key=lambda task: task.sent_s):
        node_id = node_of.get(task.plan.client_id)
        if node_id is None:
            continue
        floor.tasks[node_id] = task
        content, deadline_s = {node_id: floor.content(node_id)}, progress.setup.config.round.deadline_s
        with floor.mail.clock.again(task.sent_s):
            floor.mail.send(TRAIN, content, str(task.plan.round), deadline_s, floor.content)


class SentModels:
    """The models that tasks under way start from, one file a version, with what was sent beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, version: int, sent: Tensors) -> None:
        """Keep what clients of this version get."""
        from safetensors.numpy import save

        write_atomic(self._path(version), save(dict(sent)))

    def load(self, version: int) -> dict[str, FloatArray]:
        """What clients of that version got.

        Raises:
            RunFolderError: it is not there or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return load(self._path(version).read_bytes())
        except (OSError, SafetensorError) as error:
            raise RunFolderError(f"{self._path(version)}: expected the model of version {version} ({error})") from None

    def keep_only(self, versions: set[int]) -> None:
        """Forget all others."""
        kept = {self._path(version) for version in versions}
        for path in self._files():
            if path not in kept:
                path.unlink()

    def _files(self) -> Iterator[Path]:
        return self._folder.glob("*.safetensors")

    def _path(self, version: int) -> Path:
        return self._folder / f"{version:06d}.safetensors"
