"""From a config to what the round loop needs: data facts, strategy, initial model and the terms of privacy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fl_core import __version__
from fl_core.config import Config, to_plain
from fl_core.config.schema import ClientsSection
from fl_core.data.federation import Examples, Federation
from fl_core.errors import ConfigError, DataError, ModelError
from fl_core.models.weights import trainable_tensors
from fl_core.privacy.accountant import noise_multiplier
from fl_core.quant.forward import FrozenCache, outputs
from fl_core.quant.graph import QatModel
from fl_core.quant.ranges import running_activations
from fl_core.rng import derive_seed
from fl_core.spec import DataFacts, TrainingSpec
from fl_core.tasks.base import Task
from fl_core.types import ClientInfo, DpTerms, RoundPlan, Tensors
from fl_server.plan.forbidden import check_run
from fl_server.selection.base import Selection
from fl_server.selection.registry import build_selection
from strategies.base import Strategy
from strategies.registry import build_strategy

SERVER_PATHS = ("out", "beside")
"""Fields of ``run`` that decide where results go, not what they are."""


@dataclass(frozen=True)
class Setup:
    """Everything that a run needs to know before its first round."""

    config: Config
    spec: TrainingSpec
    strategy: Strategy
    test: Examples | None
    public: Examples | None
    groups: Mapping[str, Any]
    labels: tuple[str, ...]
    unit: str
    not_hidden: str
    simulated: bool = False
    """Whether the server's own noise comes from named seeds, which protects nobody."""

    @classmethod
    def of(cls, config: Config, federation: Federation, simulated: bool = False) -> Setup:
        """Build it from a config and the data that the server sees.

        Raises:
            ConfigError: the number of outputs is unknown, the strategy cannot be built or goes with another part of the
                run that the table of forbidden pairs names, or ranges are to be calibrated
                on public examples where there are none.
            ModelError: the model cannot be built, or gives another number of outputs than the data asks for.
            DataError: targets do not have the form that the task needs; every owner of such is named.
        """
        if config.quant.ranges == "public" and federation.public is None:
            raise ConfigError("quant.ranges: public needs public examples, and this data set has none; use fixed")
        count = _count_outputs(config, federation)
        facts = DataFacts(federation.input_shape, count, federation.input_range)
        strategy = build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args)
        build_selection(config.clients.selection, config.privacy is not None)
        check_run(config, strategy)
        spec = TrainingSpec.of(config, facts)
        _check_targets(spec.build_task(), federation, count)
        _check_outputs(spec, config.run.seed)
        return cls(
            config=config,
            spec=spec,
            strategy=strategy,
            test=federation.test,
            public=federation.public,
            groups=federation.groups,
            labels=federation.labels,
            unit=federation.unit,
            not_hidden=federation.not_hidden,
            simulated=simulated,
        )

    @cached_property
    def task(self) -> Task:
        """What is learned."""
        return self.spec.build_task()

    @cached_property
    def model(self) -> QatModel:
        """The server's own quantization-aware model, into which global weights are loaded."""
        return self.spec.build_model(self.config.run.seed)

    @cached_property
    def selection(self) -> Selection:
        """How the clients of a round are chosen."""
        return build_selection(self.config.clients.selection, self.config.privacy is not None)

    @cached_property
    def cache(self) -> FrozenCache:
        """``model`` with the outputs of its frozen front end kept."""
        return FrozenCache(self.model)

    @cached_property
    def widths(self) -> Mapping[int, Setup]:
        """By weight bits: this setup, and one for each further width that clients train at.

        They differ in the grids of the weights alone. Weights travel in float and activations have 8 bits everywhere,
        so one global model, with one set of ranges and learned scales, is that of every width.
        """
        main, *others = self.spec.quant.widths
        return {main: self, **{bits: replace(self, spec=self.spec.at_width(bits)) for bits in others}}

    def initial_state(self) -> Any:
        """The strategy's state before the first round, from the seeded initial weights."""
        return self.strategy.init(trainable_tensors(self.spec.build_model(self.config.run.seed)))

    def with_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> Setup:
        """The same with measured activation ranges; itself when they are what it has."""
        ranges = {name: (low, high) for name, (low, high) in ranges.items()}
        return self if ranges == self.spec.ranges else replace(self, spec=replace(self.spec, ranges=ranges))

    @cached_property
    def expected_parts(self) -> Mapping[str, Tensors]:
        """The strategy's parts of every update, with tensors of the right shapes; what stays at home is in none."""
        named = [name for name, param in self.model.named_parameters() if param.requires_grad]
        home = self.strategy.stays_home(named)
        shapes = {name: t for name, t in trainable_tensors(self.model).items() if name not in home}
        return self.strategy.parts(shapes)

    @cached_property
    def ranges_asked(self) -> tuple[str, ...]:
        """Activations whose running ranges every update brings."""
        return tuple(running_activations(self.model))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the config that decides the result, in hex."""
        plain = to_plain(self.config)
        for key in SERVER_PATHS:
            plain["run"].pop(key)
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def dp_terms(self, size_class: int) -> DpTerms | None:
        """The terms of private training for a client of that size class; None without privacy."""
        privacy = self.config.privacy
        if privacy is None:
            return None
        rate, steps = sampling(self.config.clients, size_class)
        share = 1 - privacy.ranges_share if self.config.quant.ranges == "dp_histogram" else 1.0
        sigma = noise_multiplier(
            privacy.epsilon * share, privacy.delta, rate, steps * self.config.run.rounds, privacy.accountant
        )
        return DpTerms(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            clip_norm=privacy.clip_norm,
            noise_multiplier=sigma,
            sample_rate=rate,
            steps=steps,
            normaliser=rate * size_class,
            accountant=privacy.accountant,
        )

    def describe_data(self) -> dict[str, Any]:
        """What the events say of the data: all of it public."""
        data = self.config.data
        return {
            "name": data.name or data.factory,
            "unit": self.unit,
            "not_hidden": self.not_hidden,
            "labels": list(self.labels),
            "groups": sorted(self.groups),
            "metric": self.task.metric_name,
        }

    def describe_privacy(self, clients: Iterable[ClientInfo]) -> dict[str, Any] | None:
        """What the events say of the guarantee; None without one.

        ``named_seeds`` has the boards whose noise anyone can draw again; no epsilon holds for a run with such a one.
        """
        privacy = self.config.privacy
        if privacy is None:
            return None
        infos = list(clients)
        terms = {info.client_id: self.dp_terms(info.size_class) for info in infos}
        fields = ("noise_multiplier", "sample_rate", "steps")
        each = {name: {client: getattr(term, name) for client, term in sorted(terms.items())} for name in fields}
        words = {"unit_text": self.unit, "not_hidden": self.not_hidden}
        simulated = sorted(info.client_id for info in infos if info.simulated)
        marks = {"simulated": bool(simulated), "named_seeds": [] if self.simulated else simulated}
        return to_plain(privacy) | words | each | marks

    def plan(
        self, info: ClientInfo, round: int, base_version: int, sent: str = "", accepted: str | None = None
    ) -> RoundPlan:
        """What ``info``'s client is asked to do in ``round``.

        The same question has the same task_id: ``sent`` is the digest of all tensors that travel with the plan.
        """
        run = self.config.run
        return RoundPlan(
            task_id=f"{derive_seed('task', self.digest, round, base_version, info.client_id, sent):016x}",
            run=run.name,
            round=round,
            client_id=info.client_id,
            base_version=base_version,
            seed=run.seed,
            rounds=run.rounds,
            training=self.spec.at_width(self.spec.quant.width_of(info.client_id)).to_plain(),
            dp=self.dp_terms(info.size_class),
            accepted=accepted,
            asks=(*self.selection.asks, *self.spec.quant.asks),
            code_version=__version__,
        )


def sampling(clients: ClientsSection, size_class: int) -> tuple[float, int]:
    """Sample rate and steps of a round under DP, from public numbers alone."""
    rate = clients.sample_rate or min(1.0, clients.batch_size / size_class)
    return rate, clients.local_steps or clients.local_epochs * max(1, round(1 / rate))


def _check_targets(task: Task, federation: Federation, outputs: int) -> None:
    """Public examples calibrate only, so their targets may be anything."""
    parts = {f"client {name}, train": client.train for name, client in federation.clients.items()}
    parts |= {f"client {name}, test": client.test for name, client in federation.clients.items() if client.test}
    parts |= {"server test set": federation.test} if federation.test else {}
    problems = []
    for owner, part in parts.items():
        try:
            task.check_targets(owner, part.y, outputs)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


def _check_outputs(spec: TrainingSpec, seed: int) -> None:
    example = np.zeros((1, *spec.facts.input_shape), np.float32)
    given = outputs(spec.build_model(seed), example, fake_quant=False).shape[1:]
    if int(np.prod(given)) != spec.facts.outputs:
        raise ModelError(f"model: expected {spec.facts.outputs} outputs an example, got shape {given}")


def _count_outputs(config: Config, federation: Federation) -> int:
    """Values that the model gives for an example: one a class, or what the targets show."""
    if federation.labels:
        return len(federation.labels)
    stated = config.model.args.get("outputs")
    if stated is not None:
        return int(stated)
    sample = federation.test or federation.public or next(iter(federation.clients.values())).train
    if sample.y.dtype.kind in "iu":
        raise ConfigError("model.args.outputs: expected the number of classes, for the data names no labels")
    return int(sample.y[0].size)
