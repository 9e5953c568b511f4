"""One of our strategies as a Flower strategy, for somebody else's ServerApp.

    from strategies.flower.as_flower import as_flower
    from strategies.fedavgm import FedAvgM

    as_flower(FedAvgM(momentum=0.9)).start(grid, initial_arrays, num_rounds=10)

Nodes are sampled and evaluated as by Flower's FedAvg, whose arguments may follow; the server half of ours makes the
new model. What it needs of the clients their ClientApp does not have: a strategy with a client half of its own, with
memory or with tensors other than the model is refused, with the reason. A reply that is not fit to be summed costs that
node its update and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as Sampling
from flwr.serverapp.strategy import Strategy as Theirs
from flwr.supercore import log

from fl_core.errors import ConfigError, UpdateRejectedError
from fl_core.types import ClientUpdate, FloatArray, Part, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.client import SHARED, ClientContext, LocalOutcome

_PROBE = {"weight": np.array([[1.0, -2.0], [0.5, 4.0]], np.float32), "bias": np.array([0.5, -1.5], np.float32)}
"""Tensors on which a strategy shows whether it has a client half."""


class AsFlower(Theirs):
    """A Flower strategy whose server half is ``ours``; its state is kept on itself, as Flower's own do."""

    def __init__(self, ours: Strategy, sampling: Sampling) -> None:
        self._ours = ours
        self._sampling = sampling
        self._state: StrategyState | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the nodes that Flower's FedAvg samples; the arrays are the model of this round."""
        model = {name: array.numpy().astype(np.float32) for name, array in arrays.items()}
        fresh = self._state is None or self._state.model.keys() != model.keys()
        self._state = self._ours.init(model) if fresh or self._state is None else replace(self._state, model=model)
        return self._sampling.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model after our server half, and Flower's mean of the metrics of the nodes that were summed."""
        if self._state is None:
            raise ConfigError("as_flower: expected configure_train before aggregate_train")
        state, summed = self._state, []
        for reply in replies:
            node = f"{reply.metadata.src_node_id:020d}"
            try:
                update = _update(reply, node, self._state, self._sampling.weighted_by_key)
                state = self._ours.accumulate(state, update)
                summed.append(reply.content)
            except UpdateRejectedError as error:
                log(WARNING, "aggregate_train: %s", error)
        self._state = self._ours.finish(state)
        if not summed:
            return None, None
        metrics = self._sampling.train_metrics_aggr_fn(summed, self._sampling.weighted_by_key)
        return ArrayRecord({name: Array(t) for name, t in self._state.model.items()}), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the nodes that Flower's FedAvg would have evaluate."""
        return self._sampling.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The mean of the nodes' metrics, as Flower's FedAvg takes it."""
        return self._sampling.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the name of the strategy, and how nodes are sampled."""
        log(INFO, "\t├──> %s", self._ours)
        self._sampling.summary()


def as_flower(strategy: Strategy, **sampling: Any) -> Theirs:
    """``strategy`` for a Flower ServerApp; ``sampling`` goes to Flower's FedAvg (fraction_train, min_train_nodes …).

    Clients answer as to Flower's FedAvg: trained arrays, and a whole number of examples under ``weighted_by_key``.
    Arrays come back in float32.

    Raises:
        ConfigError: the strategy needs more of its clients or of its server than Flower's loop has.
    """
    reason = _needs(strategy)
    if reason:
        raise ConfigError(f"as_flower: {type(strategy).__name__} cannot run in Flower's loop: {reason}")
    return AsFlower(strategy, Sampling(**sampling))


def _needs(strategy: Strategy) -> str:
    """What ``strategy`` needs that is not there; empty when nothing is."""
    import torch

    if "asynchronous" in strategy.traits:
        return "a round there ends with its cohort, and never with a full buffer"
    if "central_dp" in strategy.traits:
        return "its budget is kept in the ledger of a run folder"
    state = strategy.init(_PROBE)
    if strategy.broadcast(state):
        return f"clients must get {', '.join(sorted(strategy.broadcast(state)))} beside the model"
    if tuple(strategy.phases()) != (SHARED,) or strategy.stays_home(list(_PROBE)):
        return "its clients train in phases of their own, or keep tensors at home"
    if set(strategy.parts(_PROBE)) != {MODEL_PART}:
        return f"updates must hold {', '.join(sorted(set(strategy.parts(_PROBE)) - {MODEL_PART}))} beside the model"
    parts, memory = strategy.conclude(LocalOutcome(_PROBE, _PROBE, {}, {}, 3, 0.1, 0.0, private=False))
    if memory or any(not np.array_equal(parts[MODEL_PART][name], t) for name, t in _PROBE.items()):
        return "its clients remember something, or change their update before they send it"
    anchor = {name: torch.from_numpy(t.copy()) for name, t in _PROBE.items()}
    params = {name: torch.nn.Parameter(t + 1) for name, t in anchor.items()}
    context = ClientContext(anchor)
    if any(torch.count_nonzero(extra) for extra in strategy.correction(params, context).values()):
        return "its clients must correct their gradients"
    if not _has_plain_loss(strategy, context):
        return "its clients must use a loss of its own"
    return ""


def _has_plain_loss(strategy: Strategy, context: ClientContext) -> bool:
    import torch

    from fl_core.tasks import build_task

    task, x, y = build_task("classification"), torch.eye(2), torch.tensor([0, 1])
    model = torch.nn.Linear(2, 2)
    model.load_state_dict({name: t + 1 for name, t in context.anchor.items()})
    return torch.equal(strategy.example_loss(task, model, x, y, context), task.example_loss(model(x), y))


def _update(reply: Message, node: str, state: StrategyState, weighted_by_key: str) -> ClientUpdate:
    """A node's reply as an update.

    Raises:
        UpdateRejectedError: it is an error, or not fit to be summed.
    """
    if reply.has_error():
        raise UpdateRejectedError(f"node {node}: error {reply.error.code}: {reply.error.reason}")
    arrays, metrics = list(reply.content.array_records.values()), list(reply.content.metric_records.values())
    if len(arrays) != 1 or len(metrics) != 1:
        raise UpdateRejectedError(
            f"node {node}: expected one ArrayRecord and one MetricRecord, got {len(arrays)} and {len(metrics)}"
        )
    weight = metrics[0].get(weighted_by_key)
    if not isinstance(weight, int | float) or weight < 1 or weight != int(weight):
        raise UpdateRejectedError(f"node {node}: expected a whole {weighted_by_key} of at least 1, got {weight!r}")
    trained = {name: array.numpy().astype(np.float32) for name, array in arrays[0].items()}
    _check(node, trained, state.model)
    delta: dict[str, FloatArray] = {name: trained[name] - state.model[name] for name in sorted(trained)}
    return ClientUpdate(f"{state.version}-{node}", node, state.version, {MODEL_PART: Part(delta)}, int(weight), 1)


def _check(node: str, trained: Mapping[str, FloatArray], model: Tensors) -> None:
    expected, got = ({name: t.shape for name, t in sorted(each.items())} for each in (model, trained))
    if got != expected:
        raise UpdateRejectedError(f"node {node}: expected arrays {expected}, got {got}")
    bad = [name for name, t in trained.items() if not np.isfinite(t).all()]
    if bad:
        raise UpdateRejectedError(f"node {node}: expected finite values, got others in {', '.join(bad)}")
