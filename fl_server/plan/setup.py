"""What a run is made of: its config, its strategy and the data that the server sees, built once and never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fl_core.config import Config, to_plain
from fl_core.data.federation import Examples, Federation
from fl_core.errors import ConfigError
from fl_core.findings import Finding
from fl_core.models.weights import trainable_tensors
from fl_core.registry import field_named
from fl_core.spec import TrainingSpec
from fl_core.tasks.base import Task
from fl_server.plan.checks import check_run
from fl_server.plan.findings import findings_before
from fl_server.plan.fit import check_net, check_targets, data_facts
from fl_server.plan.found_in_data import check_ranges
from fl_server.plan.inspected import Inspected
from fl_server.plan.running_strategy import RunningStrategy
from fl_server.selection.base import Selection
from fl_server.selection.registry import build_selection
from strategies.base import Strategy, StrategyState
from strategies.registry import STRATEGIES, build_strategy

SERVER_PATHS = ("out", "companion")
"""Fields of ``run`` that decide where results go, not what they are."""


def deciding_fields(config: Config) -> dict[str, Any]:
    """Everything in a config that decides the result, as plain values."""
    plain = to_plain(config)
    for key in SERVER_PATHS:
        plain["run"].pop(key)
    return plain


def config_digest(config: Config) -> str:
    """SHA-256 over ``deciding_fields``, in hex."""
    return hashlib.sha256(json.dumps(deciding_fields(config), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ServerData:
    """What a server holds of the data and may say of it; no client's examples."""

    test: Examples | None
    public: Examples | None
    groups: Mapping[str, Any]
    labels: tuple[str, ...]
    unit: str
    not_hidden: str

    @classmethod
    def of(cls, federation: Federation) -> ServerData:
        """The server's part of a federation."""
        return cls(
            test=federation.test,
            public=federation.public,
            groups=federation.groups,
            labels=federation.labels,
            unit=federation.unit,
            not_hidden=federation.not_hidden,
        )


@dataclass(frozen=True)
class Setup:
    """Everything that is settled before the first round and holds for all of them."""

    config: Config
    spec: TrainingSpec
    """What is trained, without ranges that a run measures."""
    task: Task
    strategy: Strategy
    selection: Selection
    """How the clients of a round are chosen."""
    data: ServerData
    simulated: bool = False
    """Whether the server's own noise comes from named seeds, which protects nobody."""
    run_id: str = ""
    """Tells this run from any other of its name; empty before it has a folder."""
    findings: tuple[Finding, ...] = ()
    """What a person should know of the run before it starts."""

    @classmethod
    def of(cls, config: Config, federation: Federation, simulated: bool = False) -> Setup:
        """Build it from a config and the data that the server sees.

        Raises:
            ConfigError: the number of outputs is unknown, the strategy cannot be built or goes with another part of the
                run that the table of forbidden pairs names, or ranges are to be calibrated
                on public examples where there are none, or the task breaks its contract.
            ModelError: the model cannot be built, is another one when it is prepared, or gives other outputs than the
                data asks for.
            DataError: targets do not have the form that the task needs, or nearly all inputs or targets lie outside
                their range; every owner of such is named.
        """
        if config.quant.ranges == "public" and federation.public is None:
            raise ConfigError("quant.ranges: public needs public examples, and this data set has none; use fixed")
        facts = data_facts(config, federation)
        strategy = build_strategy(config.strategy.name, config.strategy.factory, config.strategy.args)
        selection = build_selection(config.clients.selection, config.privacy is not None)
        check_run(config, strategy)
        spec = TrainingSpec.of(config, facts)
        task = spec.build_task()
        seen = Inspected(config, federation, spec, task, strategy)
        check_targets(seen)
        check_net(seen)
        check_ranges(seen)
        data, found = ServerData.of(federation), findings_before(seen)
        return cls(config, spec, task, strategy, selection, data, simulated, findings=found)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the config that decides the result, in hex."""
        return config_digest(self.config)

    @property
    def running_strategy(self) -> RunningStrategy:
        """The strategy as a run calls it."""
        named = self.config.strategy
        own = named.factory is not None or named.name not in STRATEGIES
        return RunningStrategy(self.strategy, field_named("strategy", named.name, named.factory), own)

    def initial_state(self) -> StrategyState:
        """The strategy's state before the first round, from the seeded initial weights."""
        return self.running_strategy.init(trainable_tensors(self.spec.build_model(self.config.run.seed)))
