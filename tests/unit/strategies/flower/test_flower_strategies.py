"""Flower's own strategies and its users' run here by their names, to the value that Flower itself gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fl_core.errors import ConfigError, RoundError
from fl_core.flower_private import borrowed_identity
from fl_core.parts import LOSS_PART
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import Strategy, StrategyState
from strategies.flower import adapter as adapter
from strategies.registry import build_strategy

MODEL = {"b": np.array([1.0, -1.0], np.float32), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}
CLIENTS = 9
INNER = {"factory": "flwr.serverapp.strategy:FedAvg"}
ARGS: Mapping[str, dict[str, Any]] = {
    "Bulyan": {"num_malicious_nodes": 1},
    "DifferentialPrivacyServerSideAdaptiveClipping": {"strategy": INNER, "noise_multiplier": 0.1},
    "DifferentialPrivacyServerSideFixedClipping": {"strategy": INNER, "noise_multiplier": 0.1, "clipping_norm": 1.0},
    "FedAvgM": {"server_momentum": 0.7},
    "FedProx": {"proximal_mu": 0.1},
    "Krum": {"num_malicious_nodes": 2},
    "MultiKrum": {"num_malicious_nodes": 2, "num_nodes_to_select": 4},
    "QFedAvg": {"client_learning_rate": 0.1, "q": 0.3},
}
ALL = sorted(set(flower.__all__) - {"Result", "Strategy"})
RUNNING = [name for name in ALL if name not in adapter.REFUSED]
QUIET = [name for name in RUNNING if not name.startswith("DifferentialPrivacy")]


def args_of(name: str) -> dict[str, Any]:
    extra = {"num_sampled_clients": CLIENTS} if name.startswith("DifferentialPrivacy") else {}
    return {**ARGS.get(name, {}), **extra}


def named(name: str) -> Strategy:
    return build_strategy(None, f"flwr.serverapp.strategy:{name}", args_of(name))


def trained(client: int, round: int, model: Tensors) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(100 * round + client)
    return {n: t + 0.1 * draw.standard_normal(t.shape).astype(np.float32) for n, t in model.items()}


def loss_of(client: int) -> float:
    return 0.5 + client


def update(strategy: Strategy, client: int, round: int, model: Tensors) -> ClientUpdate:
    parts = {"delta": Part({n: t - model[n] for n, t in trained(client, round, model).items()})}
    if "uses_losses" in strategy.traits:
        parts[LOSS_PART] = Part({LOSS_PART: np.array([loss_of(client)], np.float32)})
    return ClientUpdate(f"task-{client}", f"client-{client}", round, parts, client + 1, 1)


def run(strategy: Strategy, state: StrategyState, rounds: range) -> StrategyState:
    for round in rounds:
        for client in range(CLIENTS):
            state = strategy.accumulate(state, update(strategy, client, round, state.model))
        state = strategy.finish(state)
    return state


def run_flower(theirs: flower.Strategy, rounds: int) -> dict[str, np.ndarray]:
    """The same clients, told by Flower's own hooks alone."""
    model = dict(MODEL)
    with borrowed_identity():
        for round in range(rounds):
            arrays = ArrayRecord({n: Array(t) for n, t in model.items()})
            theirs.configure_train(round + 1, arrays, ConfigRecord(), adapter.CountedNodes(CLIENTS))
            replies = []
            for client in range(CLIENTS):
                record = ArrayRecord({n: Array(t) for n, t in trained(client, round, model).items()})
                metrics = MetricRecord({"num-examples": client + 1, "train_loss": loss_of(client)})
                content = RecordDict({"arrays": record, "metrics": metrics})
                replies.append(Message(content, reply_to=Message(RecordDict(), client + 2, "train")))
            aggregated, _ = theirs.aggregate_train(round + 1, replies)
            assert aggregated is not None
            model = {n: a.numpy().astype(np.float32) for n, a in aggregated.items()}
    return model


def bits(state: StrategyState) -> tuple[str, ...]:
    return digest(state.model), *(digest(state.slots[name]) for name in sorted(state.slots))


def test_every_class_of_flower_runs_or_says_why_not() -> None:
    assert set(RUNNING) | set(adapter.REFUSED) == set(ALL)
    for name in adapter.REFUSED:
        with pytest.raises(ConfigError, match=f"{name} cannot run here: .{{20}}"):
            named(name)


@pytest.mark.parametrize("name", QUIET)
def test_a_stock_strategy_gives_what_flower_gives(name: str) -> None:
    strategy = named(name)
    ours = run(strategy, strategy.init(MODEL), range(3)).model
    theirs = run_flower(getattr(flower, name)(**args_of(name)), 3)
    for tensor in MODEL:
        np.testing.assert_allclose(ours[tensor], theirs[tensor], rtol=0, atol=1e-6)
    assert any(not np.allclose(ours[tensor], MODEL[tensor], atol=1e-3) for tensor in MODEL)


@pytest.mark.parametrize("name", RUNNING)
def test_a_resumed_stock_strategy_goes_on_to_the_bit(name: str) -> None:
    strategy = named(name)
    straight = run(strategy, strategy.init(MODEL), range(4))
    half = run(named(name), named(name).init(MODEL), range(2))
    assert bits(run(named(name), half, range(2, 4))) == bits(straight)


@pytest.mark.parametrize("name", RUNNING)
def test_global_generators_are_left_as_they_were(name: str) -> None:
    strategy = named(name)
    before = random.getstate(), np.random.get_state()[1].tobytes()
    run(strategy, strategy.init(MODEL), range(1))
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before


def test_fewer_clients_than_a_strategy_waits_for_do_not_stop_a_round() -> None:
    strategy = build_strategy(None, "flwr.serverapp.strategy:FedAvg", {"min_available_nodes": 500})
    state = strategy.init(MODEL)
    state = strategy.finish(strategy.accumulate(state, update(strategy, 1, 0, MODEL)))
    for name, tensor in trained(1, 0, MODEL).items():
        np.testing.assert_allclose(state.model[name], tensor, atol=1e-6)


def test_fedproxs_term_pulls_on_our_clients() -> None:
    import torch

    from strategies.client import ClientContext

    anchor = {"b": torch.tensor([1.0, 2.0])}
    extra = named("FedProx").correction({"b": torch.tensor([2.0, 0.0])}, ClientContext(anchor))
    torch.testing.assert_close(extra["b"], torch.tensor([0.1, -0.2]))


class Counting(flower.FedAvg):
    """A user's own: it halves its step, and keeps a number, nested arrays and a generator on itself."""

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.scale = scale
        self.calls = 0
        self.seen: dict[str, list[Any]] = {"norms": []}
        self.generator = np.random.default_rng(0)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        arrays, metrics = super().aggregate_train(server_round, replies)
        self.calls += 1
        self.seen["norms"].append(np.float64(sum(float(np.square(a.numpy()).sum()) for a in arrays.values())))
        scale = self.scale**self.calls
        return ArrayRecord({n: Array((scale * a.numpy()).astype(np.float32)) for n, a in arrays.items()}), metrics


def counting(scale: float) -> flower.Strategy:
    """A factory and no class."""
    return Counting(scale)


@pytest.mark.parametrize("factory", ["Counting", "counting"])
def test_a_users_subclass_runs_and_says_what_no_checkpoint_can_hold(
    factory: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter.say_once.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "own_flower", __import__("types").SimpleNamespace(**globals()))
    make: Callable[[], Strategy] = lambda: build_strategy(None, f"own_flower:{factory}", {"scale": 0.5})  # noqa: E731
    strategy = make()
    assert "no checkpoint can hold generator" in caplog.text
    straight = run(strategy, strategy.init(MODEL), range(3))
    assert strategy.theirs.calls == 3
    assert bits(run(make(), run(make(), make().init(MODEL), range(2)), range(2, 3))) == bits(straight)


def test_a_failure_inside_flower_stops_the_run_with_its_reason() -> None:
    strategy = named("FedTrimmedAvg")
    strategy.theirs.beta = 0.7
    with pytest.raises(RoundError, match=r"FedTrimmedAvg: round 1 failed in Flower: .*beta=0.7 is too large"):
        run(strategy, StrategyState(MODEL, slots={"flower": build_kept(strategy)}), range(1))


def build_kept(strategy: Strategy) -> Tensors:
    from strategies.flower.snapshot import snapshot

    return snapshot(strategy.theirs)[0]


@pytest.mark.parametrize(
    ("args", "says"),
    [({"strategy": {"name": "FedAvg"}}, "args.strategy: expected a factory"), ({"nonsense": 1}, "nonsense")],
)
def test_wrong_arguments_are_refused(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_strategy(None, "flwr.serverapp.strategy:DifferentialPrivacyServerSideFixedClipping", args)
