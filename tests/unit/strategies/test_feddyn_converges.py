"""FedDyn on clients whose minimisers and curvatures differ: it finds the minimiser of the mean loss, FedAvg does not.

Client k has the loss 1/2 (w - b_k)' A_k (w - b_k), so the mean loss of equal clients has its minimiser at
(sum of A_k)^-1 (sum of A_k b_k). Local training is plain gradient descent with the strategy's own correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import Strategy, StrategyState
from strategies.client import ClientContext, LocalOutcome
from strategies.fedavg import FedAvg
from strategies.feddyn import DRIFT, GRADIENT, FedDyn

LEARNING_RATE = 0.1
FloatMatrix = npt.NDArray[np.float64]


@dataclass
class Quadratic:
    """A client: A [D, D], b [D], and what it remembers."""

    A: FloatMatrix
    b: FloatMatrix
    memory: dict[str, Tensors] = field(default_factory=dict)

    def update(self, strategy: Strategy, state: StrategyState, steps: int, name: str) -> ClientUpdate:
        """Train from the state's model."""
        anchor = {"w": torch.from_numpy(state.model["w"])}
        memory = {slot: {n: torch.from_numpy(t) for n, t in own.items()} for slot, own in self.memory.items()}
        context = ClientContext(anchor=anchor, memory=memory)
        A, b = torch.from_numpy(self.A).float(), torch.from_numpy(self.b).float()
        w = anchor["w"].clone()
        for _ in range(steps):
            gradient = A @ (w - b)
            for term in strategy.correction({"w": w}, context).values():
                gradient = gradient + term
            w = w - LEARNING_RATE * gradient
        outcome = LocalOutcome(
            received=state.model, delta={"w": (w - anchor["w"]).numpy()}, broadcast={}, memory=self.memory,
            steps=steps, learning_rate=LEARNING_RATE, momentum=0.0, private=False,
        )  # fmt: skip
        parts, kept = strategy.conclude(outcome)
        self.memory = dict(kept)
        return ClientUpdate("t", name, 0, {part: Part(tensors) for part, tensors in parts.items()}, 1, steps)


def train(
    strategy: Strategy, clients: list[Quadratic], rounds: int, steps: int, asked: int | None = None
) -> FloatMatrix:
    """The model [D] after some rounds, each of ``asked`` clients in turn, or of all."""
    state = strategy.init({"w": np.zeros(2, np.float32)})
    for round in range(rounds):
        at = range(len(clients)) if asked is None else [(round * asked + k) % len(clients) for k in range(asked)]
        answers = [clients[k].update(strategy, state, steps, f"c{k}") for k in at]
        for answer in answers:
            state = strategy.accumulate(state, answer)
        state = strategy.finish(state)
    return state.model["w"].astype(np.float64)


def fleet() -> list[Quadratic]:
    """Four clients, steep where others are flat."""
    draw = np.random.default_rng(3)
    found = []
    for _ in range(4):
        turn, _ = np.linalg.qr(draw.standard_normal((2, 2)))
        found.append(Quadratic(turn @ np.diag(draw.uniform(0.05, 3.0, 2)) @ turn.T, draw.uniform(-3, 3, 2)))
    return found


def minimiser(clients: list[Quadratic]) -> FloatMatrix:
    return np.linalg.solve(sum(c.A for c in clients), sum(c.A @ c.b for c in clients))


def test_feddyn_finds_the_minimiser_of_the_mean_loss_where_fedavg_does_not():
    away = {
        name: float(np.linalg.norm(train(strategy, fleet(), 60, steps=30) - minimiser(fleet())))
        for name, strategy in (("fedavg", FedAvg()), ("feddyn", FedDyn(alpha=0.3)))
    }
    assert away["feddyn"] < 1e-4
    assert away["fedavg"] > 0.3


def test_feddyn_finds_it_too_where_half_of_the_clients_are_asked_at_a_time():
    clients = fleet()
    found = train(FedDyn(alpha=0.3, clients=len(clients)), clients, 150, steps=30, asked=2)
    np.testing.assert_allclose(found, minimiser(clients), atol=1e-3)


@pytest.mark.parametrize(
    ("alpha", "curvature", "steps"), [(0.1, 1.0, 1), (0.1, 0.2, 15), (0.5, 0.2, 15), (0.1, 1.0, 60)]
)
def test_a_round_damps_by_how_far_the_clients_come(alpha, curvature, steps):
    """The map from (x, h) to the next has the determinant 1 - s, with s = 1 - (1 - learning_rate * (curvature +
    alpha))^steps: with little local work FedDyn is momentum without friction."""
    strategy = FedDyn(alpha=alpha)
    columns = []
    for x, drift in ((1.0, 0.0), (0.0, 1.0)):
        client = Quadratic(curvature * np.eye(2), np.zeros(2))
        slot = {"w": np.array([drift, 0], np.float32)}
        client.memory = {GRADIENT: slot}  # with one client g and h are the same
        state = replace(strategy.init({"w": np.array([x, 0], np.float32)}), slots={DRIFT: slot})
        after = strategy.finish(strategy.accumulate(state, client.update(strategy, state, steps, "c0")))
        columns.append([after.model["w"][0], after.slots[DRIFT]["w"][0]])
        np.testing.assert_array_equal(after.slots[DRIFT]["w"], client.memory[GRADIENT]["w"])
    solved = 1 - (1 - LEARNING_RATE * (curvature + alpha)) ** steps
    assert np.linalg.det(np.array(columns)) == pytest.approx(1 - solved, abs=1e-5)
    assert np.abs(np.linalg.eigvals(np.array(columns))).max() < 1
