"""Our strategies as Flower strategies: in Flower's own loop, over a foreign ClientApp, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower

from fl_core.errors import ConfigError
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app
from strategies.flower.as_flower import as_flower
from strategies.registry import STRATEGIES, build_strategy

MODEL = {"b": np.array([1.0, -1.0], np.float32), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}
NAMES = ("ada", "ben", "cleo", "dora", "emil", "fay", "gus")


def their_app(spoiled: Iterable[str] = ()) -> ClientApp:
    """A ClientApp that knows nothing of us: it steps towards a point of its own."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        name = str(context.node_config["client-id"])
        target = 1.0 + NAMES.index(name)
        arrays = message.content["arrays"]
        trained = {key: array.numpy() + 0.3 * (target - array.numpy()) for key, array in arrays.items()}
        if name in spoiled:
            trained["b"] = trained["b"] * np.float32(np.nan)
        metrics = MetricRecord({"num-examples": NAMES.index(name) + 1, "train_loss": 1.0})
        record = ArrayRecord({key: Array(value.astype(np.float32)) for key, value in trained.items()})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    return app


def start(theirs: flower.Strategy, spoiled: Iterable[str] = ()) -> flower.Result:
    grid = InProcessGrid(nodes_of(NAMES), partial(run_app, their_app(spoiled)))
    return theirs.start(grid, ArrayRecord({n: Array(t) for n, t in MODEL.items()}), num_rounds=3)


def test_fedavgm_in_flowers_loop_is_flowers_fedavgm() -> None:
    ours = start(as_flower(build_strategy("fedavgm", None, {"momentum": 0.6}), fraction_evaluate=0.0))
    theirs = start(flower.FedAvgM(server_momentum=0.6, fraction_evaluate=0.0))
    for name in MODEL:
        np.testing.assert_allclose(ours.arrays[name].numpy(), theirs.arrays[name].numpy(), atol=1e-5)
    assert ours.train_metrics_clientapp[3] == theirs.train_metrics_clientapp[3]


def test_a_median_withstands_in_flowers_loop_what_flowers_own_does() -> None:
    ours = start(as_flower(build_strategy("median", None, {}), fraction_evaluate=0.0))
    theirs = start(flower.FedMedian(fraction_evaluate=0.0))
    for name in MODEL:
        np.testing.assert_allclose(ours.arrays[name].numpy(), theirs.arrays[name].numpy(), atol=1e-5)


def test_a_reply_of_nan_costs_its_node_alone() -> None:
    result = start(as_flower(build_strategy("fedavg", None, {}), fraction_evaluate=0.0), spoiled=["gus"])
    assert all(np.isfinite(array.numpy()).all() for array in result.arrays.values())


RUNS = {"bulyan", "fedavg", "fedavgm", "krum", "median", "multikrum", "nnm", "norm_bound", "trimmed_mean"}
REFUSED = {
    "ditto": "phases of their own",
    "fedprox": "must correct their gradients",
    "moon": "remember",
    "scaffold": "control",
    "fedper": "keep tensors at home",
}


@pytest.mark.parametrize("name", sorted(RUNS & STRATEGIES.keys()))
def test_what_needs_nothing_of_its_clients_runs(name: str) -> None:
    result = start(as_flower(build_strategy(name, None, {}), fraction_evaluate=0.0))
    assert all(np.isfinite(array.numpy()).all() for array in result.arrays.values())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_needs_more_of_its_clients_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[name]):
        as_flower(build_strategy(name, None, {}))
