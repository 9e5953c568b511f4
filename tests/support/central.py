"""Strategies with noise at the server, bound to noise that a test can repeat, and updates for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fl_core.rng import BoolArray, NoiseSource, NormalArray, SeededNoise
from fl_core.types import ClientUpdate, Part, Tensors
from strategies.base import StrategyState
from strategies.central.mechanism import InMemory
from strategies.central.user_level import UserLevel

MODEL = {"b": np.zeros(2, np.float32), "w": np.zeros((2, 3), np.float32)}


@dataclass(frozen=True)
class NoNoise:
    """The exact sum, to look at what clipping does."""

    simulated: bool = True

    def normal(self, step: int, tensor: str, shape: tuple[int, ...]) -> NormalArray:
        return np.zeros(shape)

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        return np.ones(examples, np.bool_)


def seeded(seed: int) -> Callable[[int], NoiseSource]:
    return lambda round: SeededNoise(seed, "test", round, "server")


def bound(
    strategy: UserLevel, noise: Callable[[int], NoiseSource] = lambda _: NoNoise(), model: Tensors = MODEL,
    sigma: float = 1.0,
) -> UserLevel:  # fmt: skip
    """``strategy``, able to finish rounds."""
    return strategy.bound_to(InMemory(sigma, strategy.parts(model), noise))


def update(client: int, delta: Tensors, weight: int = 1, **more: Tensors) -> ClientUpdate:
    parts = {"delta": Part(delta), **{name: Part(tensors) for name, tensors in more.items()}}
    return ClientUpdate(f"task-{client}", f"client-{client}", 0, parts, weight, 1)


def filled(value: float) -> dict[str, np.ndarray]:
    """Every weight of an update alike."""
    return {name: np.full_like(tensor, value) for name, tensor in MODEL.items()}


def one_round(strategy: UserLevel, state: StrategyState, updates: list[ClientUpdate]) -> StrategyState:
    for each in updates:
        state = strategy.accumulate(state, each)
    return strategy.finish(state)
