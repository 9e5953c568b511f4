"""The trainer: it owns data, ledger, policy and model of the clients that live here, and answers tasks.

On a board it holds one client; in simulation it holds many. The order of a task is fixed, and a crash at any point
leaves the ledger right: resend a stored result -> check plan against policy -> reserve -> train -> settle together
with the encoded reply and what the client is to remember.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fl_client.trainer.local_train import LocalResult
from fl_client.trainer.memory import decode_memory, encode_memory
from fl_client.trainer.phases import train_phases
from fl_client.trainer.ranges import noisy_histograms, running_ranges
from fl_core import __version__
from fl_core.data.federation import ClientData, Examples
from fl_core.errors import ExportError, PolicyError, StonecropError, WireError
from fl_core.export.artifact import Origin
from fl_core.export.make import ExportRequest, make_artifact
from fl_core.export.registry import build_exporter, format_name
from fl_core.models.weights import load_tensors
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.quant.forward import FrozenCache, outputs
from fl_core.quant.graph import QatModel
from fl_core.quant.lower import lower
from fl_core.rng import NoiseSource
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task as LearningTask
from fl_core.types import ClientInfo, ClientUpdate, FloatArray, Part, RoundPlan, Tensors
from fl_core.update import encode_update
from strategies.base import HISTOGRAM_PART, LOSS_PART, RANGES_PART, REFUSED_UNDER_DP, Strategy, parts_of
from strategies.client import split_tensors
from strategies.registry import build_strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One plan with the global model that it starts from, and by ``slot/name`` what the strategy sends beside it."""

    plan: RoundPlan
    model: Tensors


@dataclass(frozen=True)
class TaskResult:
    """Either the encoded update, or the reason why there is none."""

    client_id: str
    encoded: bytes | None
    error: StonecropError | None = None


class Trainer:
    """Answers tasks for the clients whose data it holds.

    Args:
        clients: the examples, by client_id.
        ledger: where privacy is accounted and replies are kept; a client's data set has its client_id there.
        policy: what this device allows; with one it trains under DP only. None promises nothing.
        noise: the source of noise and sampling for a plan: named seeds in simulation, secret entropy on a board.
        artifacts: folder for the clients' own artefacts, where ``export.clients_export`` asks for them.
        simulated: whether figures that only a simulator may see go into the updates.
        tells_epsilon: whether it says what its ledger has spent. A board whose noise anyone can draw again does not,
            for the figure would promise what nothing keeps.
    """

    def __init__(
        self,
        clients: Mapping[str, ClientData],
        ledger: Ledger,
        policy: DevicePolicy | None,
        noise: Callable[[RoundPlan], NoiseSource],
        artifacts: Path,
        simulated: bool,
        tells_epsilon: bool = True,
    ) -> None:
        self._clients = clients
        self._ledger = ledger
        self._policy = policy
        self._noise = noise
        self._artifacts = artifacts
        self._simulated = simulated
        self._tells_epsilon = tells_epsilon
        self._built: dict[int, tuple[str, FrozenCache]] = {}

    def info(self, client_id: str) -> ClientInfo:
        """What the server may know of a client before it plans anything; fixes the size class for ever."""
        examples = len(self._own(client_id).train)
        return ClientInfo(client_id, self._ledger.enrol(client_id, size_class(examples)), __version__, self._simulated)

    def train_many(self, tasks: Iterable[Task]) -> Iterator[TaskResult]:
        """One result a task, in order. A client that cannot train costs its own result and nothing else."""
        for task in tasks:
            try:
                yield TaskResult(task.plan.client_id, self._train(task))
            except StonecropError as error:
                yield TaskResult(task.plan.client_id, None, error)

    def evaluate(self, task: Task) -> dict[str, float]:
        """Mean score on the client's own held-out examples, and their number.

        Raises:
            PolicyError: the plan is under DP and this is no simulation; the figure is then private.
        """
        plan = task.plan
        if not self._simulated and (plan.dp is not None or self._policy is not None):
            raise PolicyError(f"client {plan.client_id}: scores on private examples do not leave a device under DP")
        test = self._own(plan.client_id).test
        if test is None:
            return {"examples": 0, "score_float": 0.0, "score_fake_quant": 0.0}
        spec = TrainingSpec.from_plain(plan.training)
        model = self._model(spec, plan).whole
        load_tensors(model, task.model)
        learning = spec.build_task()
        scores = {
            f"score_{kind}": _score(learning, model, test, fake_quant=on)
            for kind, on in (("float", False), ("fake_quant", True))
        }
        return {"examples": len(test), **scores}

    def _train(self, task: Task) -> bytes:
        plan = task.plan
        stored = self._ledger.reply(plan.client_id, plan.task_id)
        if stored is not None:
            return stored
        data = self._own(plan.client_id)
        spec = TrainingSpec.from_plain(plan.training)
        strategy = build_strategy(spec.strategy.name, spec.strategy.factory, spec.strategy.args)
        epsilon = self._reserve(plan, spec, strategy)
        self._ledger.promote(plan.client_id, plan.accepted)
        cache = self._model(spec, plan)
        model = cache.whole
        received, broadcast = split_tensors(task.model)
        learning = spec.build_task()
        trained = train_phases(
            cache.trained,
            cache.features(plan.client_id, data.train.x, fake_quant=spec.quant.enabled),
            data.train.y,
            plan,
            spec,
            learning,
            strategy,
            self._noise(plan),
            received,
            broadcast,
            decode_memory(self._ledger.state(plan.client_id)),
        )
        private = plan.dp is not None
        simulated: dict[str, float] = {}
        if self._simulated:
            loss = self._train_loss(cache, plan.client_id, spec, data, trained.result)
            simulated = {"train_loss": loss, "examples": len(data.train)}
        parts = parts_of(trained.parts, private)
        if spec.clients.selection.wants_losses and not private:
            loss_B = self._losses(cache, plan.client_id, spec, data)
            parts[LOSS_PART] = Part({"rms": np.sqrt(np.mean(np.square(loss_B), keepdims=True))})
        if trained.personal is not None:
            # From here on the model is this client's own: that is what it scores, exports and uses.
            load_tensors(model, trained.personal)
            if self._simulated and data.test is not None:
                simulated["personal_score"] = _score(learning, model, data.test)
        if spec.quant.ranges == "ema":
            parts[RANGES_PART] = Part(running_ranges(model))
        if spec.export.clients_export:
            self._export(model, plan, data, learning, epsilon)
        update = ClientUpdate(
            task_id=plan.task_id,
            client_id=plan.client_id,
            base_version=plan.base_version,
            parts=parts,
            weight=1 if private else len(data.train),
            local_steps=trained.result.steps,
            epsilon=epsilon,
            simulated=simulated,
        )
        encoded = encode_update(update)
        keep = self._ledger.settle if private else self._ledger.store
        keep(plan.client_id, plan.task_id, encoded, encode_memory(trained.memory))
        return encoded

    def measure_ranges(self, task: Task) -> bytes:
        """The answer to a plan of round 0: histograms of activation magnitudes, noised and paid for.

        Raises:
            PrivacyError: the plan has no terms, or policy or budget refuse it.
        """
        plan = task.plan
        stored = self._ledger.reply(plan.client_id, plan.task_id)
        if stored is not None:
            return stored
        if plan.dp is None:
            raise PolicyError(f"client {plan.client_id}: ranges of private examples are measured under DP only")
        data = self._own(plan.client_id)
        spec = TrainingSpec.from_plain(plan.training)
        epsilon = self._reserve(plan, spec, None)
        model = self._model(spec, plan).whole
        load_tensors(model, task.model)
        counts = noisy_histograms(model, data.train.x, plan.dp, self._noise(plan))
        part = Part(counts, "gaussian", clip_group=HISTOGRAM_PART)
        update = ClientUpdate(plan.task_id, plan.client_id, plan.base_version, {HISTOGRAM_PART: part}, 1, 1, epsilon)
        encoded = encode_update(update)
        self._ledger.settle(plan.client_id, plan.task_id, encoded, None)
        return encoded

    def _reserve(self, plan: RoundPlan, spec: TrainingSpec, strategy: Strategy | None) -> float | None:
        """Set the budget of a plan aside; gives epsilon so far, None where there is none or it is not to be told.

        A server is not trusted to have checked this: whatever a plan says, the device's own rules hold.
        """
        who = f"client {plan.client_id}"
        if plan.dp is None and self._policy is None:
            return None
        if plan.dp is None or self._policy is None:
            wanted, got = ("a plan with DP", "one without") if plan.dp is None else ("a policy", "none")
            raise PolicyError(
                f"{who}: this device trains under DP and its own policy only; expected {wanted}, got {got}"
            )
        if spec.quant.ranges == "ema":
            raise PolicyError(f"{who}: running ranges of private examples do not leave a device under DP, got ema")
        for trait in sorted(strategy.traits & REFUSED_UNDER_DP.keys() if strategy else ()):
            raise PolicyError(f"{who}: {type(strategy).__name__} under DP: {REFUSED_UNDER_DP[trait]}")
        epsilon = self._ledger.reserve(plan.client_id, plan.task_id, plan.dp, self._policy).epsilon
        return epsilon if self._tells_epsilon else None

    def _export(
        self, model: QatModel, plan: RoundPlan, data: ClientData, learning: LearningTask, epsilon: float | None
    ) -> None:
        """The client's own, locally trained model as an artefact on its side; it never travels."""
        held_out = data.test or data.train
        spec = TrainingSpec.from_plain(plan.training)
        origin = Origin(plan.run, plan.round, epsilon, weight_bits=spec.quant.weight_bits)
        reference = outputs(model, held_out.x, fake_quant=True)
        request = ExportRequest(lower(model), held_out.x, reference, spec.task.name == "classification", origin)
        for format in spec.export.formats:
            folder = self._artifacts / plan.client_id / format_name(format)
            try:
                make_artifact(
                    request,
                    build_exporter(format),
                    folder,
                    lambda got: float(np.mean(learning.example_score(got, held_out.y))),
                )
            except ExportError as error:
                logger.warning("client %s: own artefact vetoed: %s", plan.client_id, error)

    def _own(self, client_id: str) -> ClientData:
        if client_id not in self._clients:
            raise WireError(f"plan for client {client_id}: expected one of {sorted(self._clients)}")
        return self._clients[client_id]

    def _model(self, spec: TrainingSpec, plan: RoundPlan) -> FrozenCache:
        """The model of a spec; built once a width and used again, for all that is trained in it is loaded anew."""
        if spec.quant.ranges == "ema":  # its running ranges would go on from one client to the next
            return FrozenCache(spec.build_model(plan.seed))
        key = repr((spec.to_plain(), plan.seed))
        built = self._built.get(spec.quant.weight_bits)
        if built is None or built[0] != key:
            built = self._built[spec.quant.weight_bits] = (key, FrozenCache(spec.build_model(plan.seed)))
        return built[1]

    def _train_loss(
        self, cache: FrozenCache, client_id: str, spec: TrainingSpec, data: ClientData, result: LocalResult
    ) -> float:
        if result.train_loss is not None:
            return result.train_loss
        return float(self._losses(cache, client_id, spec, data).mean())

    def _losses(self, cache: FrozenCache, client_id: str, spec: TrainingSpec, data: ClientData) -> FloatArray:
        """Loss of the trained model on each of the client's examples, float32 [B]."""
        task = spec.build_task()
        output_BX = torch.from_numpy(cache.outputs(client_id, data.train.x, fake_quant=spec.quant.enabled))
        loss_B: FloatArray = task.example_loss(output_BX, task.targets(data.train.y)).numpy()
        return loss_B


def _score(learning: LearningTask, model: QatModel, examples: Examples, fake_quant: bool = True) -> float:
    return float(np.mean(learning.example_score(outputs(model, examples.x, fake_quant=fake_quant), examples.y)))


def size_class(examples: int) -> int:
    """The power of the square root of two nearest below ``examples``, rounded: all that a server learns of a size."""
    steps = int(np.floor(2 * np.log2(max(examples, 1))))
    return round(2 ** (steps / 2))
