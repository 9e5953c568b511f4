"""One suite for every strategy: order-free, weights honoured, resumable, and calm when nobody answers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_core.errors import ConfigError
from fl_core.tasks import build_task
from fl_core.tree import digest
from fl_core.types import ClientUpdate, Part
from fl_server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from strategies.base import Strategy, StrategyState
from strategies.client import ClientContext
from strategies.registry import STRATEGIES, build_strategy

MODEL = {"b": np.array([1.0, -1.0], np.float32), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request) -> Strategy:
    return build_strategy(request.param, None, {})


def update(client: int, weight: int, delta: dict[str, np.ndarray]) -> ClientUpdate:
    return ClientUpdate(f"task-{client}", f"client-{client}", 0, {"delta": Part(delta)}, weight, 1)


def drawn(client: int, weight: int) -> ClientUpdate:
    draw = np.random.default_rng(client)
    return update(client, weight, {n: draw.standard_normal(t.shape).astype(np.float32) for n, t in MODEL.items()})


def finish(strategy: Strategy, state: StrategyState, updates: list[ClientUpdate]) -> StrategyState:
    for each in updates:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)


def bits(state: StrategyState) -> tuple[str, ...]:
    return digest(state.model), *(digest(state.slots[name]) for name in sorted(state.slots))


def test_any_order_of_replies_gives_the_same_bits(strategy):
    updates = [drawn(1, 5), drawn(2, 1), drawn(3, 1000)]
    results = {bits(finish(strategy, strategy.init(MODEL), list(order))) for order in permutations(updates)}
    assert len(results) == 1


def test_first_round_is_the_weighted_mean_of_three_clients(strategy):
    deltas = [{n: np.full_like(t, value) for n, t in MODEL.items()} for value in (1.0, 2.0, 6.0)]
    updates = [update(n, weight, delta) for n, (weight, delta) in enumerate(zip((1, 2, 1), deltas, strict=True))]
    state = finish(strategy, strategy.init(MODEL), updates)
    # (1*1 + 2*2 + 1*6) / 4 = 2.75, which every strategy here adds to the model in its first round
    for name, tensor in MODEL.items():
        np.testing.assert_array_equal(state.model[name], tensor + np.float32(2.75))


def test_equal_updates_do_not_depend_on_their_number_or_weights(strategy):
    one = finish(strategy, strategy.init(MODEL), [drawn(1, 1)])
    same = drawn(1, 1).parts["delta"].tensors
    many = finish(strategy, strategy.init(MODEL), [update(n, n + 1, dict(same)) for n in range(5)])
    for name in MODEL:
        np.testing.assert_allclose(many.model[name], one.model[name], rtol=0, atol=1e-6)


def test_a_round_without_updates_keeps_the_model(strategy):
    before = strategy.init(MODEL)
    after = strategy.finish(before)
    assert digest(after.model) == digest(before.model)
    assert after.version == before.version + 1


def test_the_state_given_in_is_left_as_it_was(strategy):
    before = strategy.init(MODEL)
    kept = bits(before)
    finish(strategy, before, [drawn(1, 3)])
    assert bits(before) == kept
    assert not before.sums


def test_resume_from_a_checkpoint_is_bit_identical(strategy, tmp_path: Path):
    rounds = [[drawn(10 * r + n, n + 1) for n in range(3)] for r in range(4)]
    straight = strategy.init(MODEL)
    for updates in rounds:
        straight = finish(strategy, straight, updates)
    state = strategy.init(MODEL)
    for number, updates in enumerate(rounds, start=1):
        state = finish(strategy, state, updates)
        save_checkpoint(tmp_path, Checkpoint(state, number, 0, ""))
        loaded = load_checkpoint(tmp_path)
        assert loaded is not None
        state = loaded.state
    assert bits(state) == bits(straight)


def test_memory_of_a_round_does_not_grow_with_its_clients(strategy):
    state = strategy.init(MODEL)
    for client in range(50):
        state = strategy.accumulate(state, drawn(client, 1))
    kept = sum(total.nbytes for sums in state.sums.values() for total in sums.totals.values())
    assert strategy.needs_all or kept == 2 * sum(t.nbytes for t in MODEL.values())


def test_the_loss_is_one_number_per_example_and_the_tasks_own(strategy):
    net, task = torch.nn.Linear(3, 2), build_task("classification")
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    context = ClientContext({name: p.detach().clone() for name, p in net.named_parameters()})
    loss_B = strategy.example_loss(task, net, x, y, context)
    torch.testing.assert_close(loss_B, task.example_loss(net(x), y))


def test_a_correction_is_zero_at_the_global_model(strategy):
    params = {n: torch.nn.Parameter(torch.from_numpy(t.copy())) for n, t in MODEL.items()}
    for extra in strategy.correction(
        params, ClientContext({n: p.detach().clone() for n, p in params.items()})
    ).values():
        assert torch.count_nonzero(extra) == 0


def test_fedprox_pulls_with_the_gradient_of_its_term():
    mu = 0.3
    params = {n: torch.nn.Parameter(torch.from_numpy(t.copy()) + 0.5) for n, t in MODEL.items()}
    anchor = {n: torch.from_numpy(t.copy()) for n, t in MODEL.items()}
    loss = mu / 2 * sum((params[n] - anchor[n]).square().sum() for n in params)
    loss.backward()
    for name, extra in build_strategy("fedprox", None, {"mu": mu}).correction(params, ClientContext(anchor)).items():
        torch.testing.assert_close(extra, params[name].grad)


def test_fedavgm_is_heavy_ball_momentum():
    strategy = build_strategy("fedavgm", None, {"momentum": 0.5})
    ones = {n: np.ones_like(t) for n, t in MODEL.items()}
    state = strategy.init(MODEL)
    for _ in range(3):
        state = finish(strategy, state, [update(1, 1, ones)])
    # velocities 1, 1.5, 1.75
    np.testing.assert_allclose(state.model["b"], MODEL["b"] + 4.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [("fedavg", {"server_learning_rate": 0}, "server_learning_rate"), ("fedavgm", {"momentum": 1.0}, "momentum"),
     ("fedprox", {"mu": -1.0}, "mu"), ("fedavgg", {}, "did you mean 'fedavg'"), ("fedavg", {"x": 1}, "x")],
)  # fmt: skip
def test_wrong_names_and_values_are_refused(name, args, says):
    with pytest.raises(ConfigError, match=says):
        build_strategy(name, None, args)
