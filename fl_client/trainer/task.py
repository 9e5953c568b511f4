"""The trainer: it owns data, ledger, policy and model of the clients that live here, and answers tasks.

    open(task) -> TrainJob      stored reply? policy, ledger.reserve, promote, model, features, memory
    engine.run(jobs)            -> Outcome
    close(job, outcome)         part transforms, encode, own artefact, ledger.settle with reply and next memory

On a board it holds one client; in simulation it holds many. The order of a task is fixed, and a crash at any point
leaves the ledger right: what an engine does in between looks at neither ledger nor wire.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fl_client.trainer.engine import Engine, LoopEngine
from fl_client.trainer.export import export_own
from fl_client.trainer.job import Outcome, TrainJob
from fl_client.trainer.memory import decode_memory, encode_memory
from fl_client.trainer.nets import TrainerNets
from fl_client.trainer.ranges import noisy_histograms
from fl_client.trainer.refusals import check_plan
from fl_core import __version__
from fl_core.data.federation import ClientData, Examples
from fl_core.errors import PolicyError, WireError
from fl_core.models.weights import load_tensors
from fl_core.part_transforms import PART_TRANSFORMS, PartTransform, transformed
from fl_core.parts import HISTOGRAM_PART, parts_of
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.quant.forward import outputs
from fl_core.quant.graph import QatModel
from fl_core.rng import NoiseSource
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_core.tasks.scores import mean_score
from fl_core.types import ClientInfo, ClientUpdate, RoundPlan, Tensors
from fl_core.update import encode_update
from strategies.client import split_tensors
from strategies.registry import build_strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientTask:
    """One plan with the global model that it starts from, and by ``slot/name`` what the strategy sends beside it."""

    plan: RoundPlan
    model: Tensors


@dataclass(frozen=True)
class TaskResult:
    """Either the encoded update, or the reason why there is none."""

    client_id: str
    encoded: bytes | None
    error: Exception | None = None

    @classmethod
    def of(cls, client_id: str, reply: bytes | Exception) -> TaskResult:
        """What became of a client's task."""
        return cls(client_id, None, reply) if isinstance(reply, Exception) else cls(client_id, reply)


@dataclass(frozen=True, eq=False)
class Trainer:
    """Answers tasks for the clients whose data it holds."""

    clients: Mapping[str, ClientData]
    """The examples, by client_id."""
    ledger: Ledger
    """Where privacy is accounted and replies are kept; a client's data set has its client_id there."""
    policy: Callable[[], DevicePolicy | None]
    """What this device allows as each task begins; with a policy it trains under DP only. None promises nothing."""
    noise: Callable[[RoundPlan], NoiseSource]
    """The source of noise and sampling for a plan: named seeds in simulation, secret entropy on a board."""
    artifacts: Path
    """Folder for the clients' own artefacts, where ``export.clients_export`` asks for them."""
    simulated: bool
    """Whether figures that only a simulator may see go into the updates."""
    tells_epsilon: bool = True
    """Whether it says what its ledger has spent. A board whose noise anyone can draw again does not, for the figure
    would promise what nothing keeps."""
    check: Callable[[], None] = lambda: None
    """Asked before each step of training; it raises where a task must end there."""
    engine: Engine = field(default_factory=LoopEngine)
    """What trains."""
    transforms: Sequence[PartTransform] = PART_TRANSFORMS
    """What is done to the parts of an update before they travel, in this order."""
    nets: TrainerNets = field(default_factory=TrainerNets, init=False, repr=False)

    def info(self, client_id: str) -> ClientInfo:
        """What the server may know of a client before it plans anything; fixes the size class for ever."""
        examples = len(self._data_of(client_id).train)
        return ClientInfo(client_id, self.ledger.enrol(client_id, size_class(examples)), __version__, self.simulated)

    def train_many(self, tasks: Iterable[ClientTask]) -> Iterator[TaskResult]:
        """One result a task, in order. A client that cannot train costs its own result and nothing else."""
        for cohort in _cohorts(tasks):
            opened = [self._try_open(task) for task in cohort]
            outcomes = self.engine.run([job for job in opened if isinstance(job, TrainJob)])
            for task, found in zip(cohort, opened, strict=True):
                reply = self._try_close(found, next(outcomes)) if isinstance(found, TrainJob) else found
                yield TaskResult.of(task.plan.client_id, reply)

    def open(self, task: ClientTask) -> TrainJob | bytes:
        """All that training this task needs, with its budget set aside; or the stored reply, where it was done before.

        Raises:
            WireError: there is no such client here, or the plan cannot be read.
            PrivacyError: device, policy or budget refuse the plan.
        """
        plan = task.plan
        stored = self.ledger.reply(plan.client_id, plan.task_id)
        if stored is not None:
            return stored
        train = self._data_of(plan.client_id).train
        spec = TrainingSpec.from_plain(plan.training)
        strategy = build_strategy(spec.strategy.name, spec.strategy.factory, spec.strategy.args)
        policy = self.policy()
        check_plan(plan, spec, strategy, policy)
        epsilon = self._reserve(plan, policy)
        self.ledger.promote(plan.client_id, plan.accepted)
        net = self.nets.of(spec, plan.seed)
        received, broadcast = split_tensors(task.model)
        return TrainJob(
            plan=plan,
            spec=spec,
            task=spec.build_task(),
            strategy=strategy,
            net=net,
            inputs=net.features(plan.client_id, train.x, fake_quant=spec.quant.enabled),
            targets=train.y,
            noise=self.noise(plan),
            received=received,
            broadcast=broadcast,
            memory=decode_memory(self.ledger.state(plan.client_id)),
            simulated=self.simulated,
            check=self.check,
            epsilon=epsilon,
        )

    def close(self, job: TrainJob, outcome: Outcome) -> bytes:
        """The encoded update, which the ledger keeps together with what the client is to remember.

        Raises:
            PolicyError: the outcome holds a part that may not leave a device under DP.
        """
        plan, data = job.plan, self._data_of(job.plan.client_id)
        private = job.dp is not None
        update = ClientUpdate(
            task_id=plan.task_id,
            client_id=plan.client_id,
            base_version=plan.base_version,
            parts=transformed(parts_of(outcome.parts, private), self.transforms),
            weight=1 if private else len(data.train),
            local_steps=outcome.result.steps,
            epsilon=job.epsilon,
            simulated=self._figures(job, outcome, data),
        )
        if job.spec.export.clients_export:
            export_own(job, outcome, data.train if data.test is None else data.test, self.artifacts / plan.client_id)
        encoded = encode_update(update)
        keep = self.ledger.settle if private else self.ledger.store
        keep(plan.client_id, plan.task_id, encoded, encode_memory(outcome.memory))
        return encoded

    def evaluate(self, task: ClientTask) -> dict[str, float]:
        """Mean score on the client's own held-out examples, and their number.

        Raises:
            PolicyError: the plan is under DP and this is no simulation; the figure is then private.
        """
        plan = task.plan
        if not self.simulated and (plan.dp is not None or self.policy() is not None):
            raise PolicyError(f"client {plan.client_id}: scores on private examples do not leave a device under DP")
        test = self._data_of(plan.client_id).test
        if test is None:
            return {"examples": 0, "score_float": 0.0, "score_fake_quant": 0.0}
        spec = TrainingSpec.from_plain(plan.training)
        model = self.nets.of(spec, plan.seed).whole
        load_tensors(model, task.model)
        learned = spec.build_task()
        scores = {
            f"score_{kind}": _score(learned, spec.task_named, model, test, fake_quant=on)
            for kind, on in (("float", False), ("fake_quant", True))
        }
        return {"examples": len(test), **scores}

    def measure_ranges(self, task: ClientTask) -> bytes:
        """The answer to a plan of round 0: histograms of activation magnitudes, noised and paid for.

        Raises:
            PrivacyError: the plan has no terms, or policy or budget refuse it.
        """
        plan = task.plan
        stored = self.ledger.reply(plan.client_id, plan.task_id)
        if stored is not None:
            return stored
        if plan.dp is None:
            raise PolicyError(f"client {plan.client_id}: ranges of private examples are measured under DP only")
        x = self._data_of(plan.client_id).train.x
        spec = TrainingSpec.from_plain(plan.training)
        policy = self.policy()
        check_plan(plan, spec, None, policy)
        epsilon = self._reserve(plan, policy)
        model = self.nets.of(spec, plan.seed).whole
        load_tensors(model, task.model)
        counts = noisy_histograms(model, x, plan.dp, self.noise(plan))
        parts = parts_of({HISTOGRAM_PART: counts}, private=True)
        encoded = encode_update(ClientUpdate(plan.task_id, plan.client_id, plan.base_version, parts, 1, 1, epsilon))
        self.ledger.settle(plan.client_id, plan.task_id, encoded, None)
        return encoded

    def _try_open(self, task: ClientTask) -> TrainJob | bytes | Exception:
        try:
            return self.open(task)
        except Exception as error:
            return error

    def _try_close(self, job: TrainJob, outcome: Outcome | Exception) -> bytes | Exception:
        if isinstance(outcome, Exception):
            return outcome
        try:
            return self.close(job, outcome)
        except Exception as error:
            return error

    def _reserve(self, plan: RoundPlan, policy: DevicePolicy | None) -> float | None:
        """Set the budget of a checked plan aside; gives epsilon so far, None where there is none or it is not told."""
        if plan.dp is None or policy is None:
            return None
        if plan.accepted is not None:
            self.ledger.check_accepted(plan.client_id, plan.accepted, plan.run_id)
        reserved = self.ledger.reserve(plan.client_id, plan.task_id, plan.dp, policy, run=plan.run_id)
        if reserved.new_run:
            words = "run %s: asks for epsilon %g of this data in all; policy.json allows %g over all runs (delta %g)"
            logger.info(words, plan.run, plan.dp.epsilon, policy.epsilon_cap, plan.dp.delta)
        return reserved.epsilon if self.tells_epsilon else None

    def _figures(self, job: TrainJob, outcome: Outcome, data: ClientData) -> dict[str, float]:
        """What only a simulator may see of a client's training; empty on a board."""
        if not self.simulated:
            return {}
        loss = outcome.result.train_loss
        figures: dict[str, float] = {"examples": len(data.train)} | ({} if loss is None else {"train_loss": loss})
        if outcome.personal is not None and data.test is not None:
            load_tensors(job.net.whole, outcome.personal)
            figures["personal_score"] = _score(job.task, job.spec.task_named, job.net.whole, data.test)
        return figures

    def _data_of(self, client_id: str) -> ClientData:
        if client_id not in self.clients:
            raise WireError(f"plan for client {client_id}: expected one of {sorted(self.clients)}")
        return self.clients[client_id]


def _cohorts(tasks: Iterable[ClientTask]) -> Iterator[list[ClientTask]]:
    """The tasks in order, cut so that no client is twice in one list: its second task needs its first one's end."""
    cohort: dict[str, ClientTask] = {}
    for task in tasks:
        if task.plan.client_id in cohort:
            yield list(cohort.values())
            cohort = {}
        cohort[task.plan.client_id] = task
    if cohort:
        yield list(cohort.values())


def _score(learned: Task, who: str, model: QatModel, examples: Examples, fake_quant: bool = True) -> float:
    return mean_score(learned, who, outputs(model, examples.x, fake_quant=fake_quant), examples.y)


def size_class(examples: int) -> int:
    """The power of the square root of two nearest below ``examples``, rounded: all that a server learns of a size."""
    steps = int(np.floor(2 * np.log2(max(examples, 1))))
    return round(2 ** (steps / 2))
