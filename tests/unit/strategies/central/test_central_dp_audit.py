"""Does the noise at the server keep its promise? A canary client, watched by whoever sees every model of a run.

The real code stays below the epsilon that its ledger claims; half the noise, and clipping switched off, do not.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fl_core.privacy.audit import CanaryScores, collect, gaussian_epsilon_lower_bound
from fl_core.privacy.ledger import Ledger
from fl_core.rng import NoiseSource, SecretNoise
from fl_server.plan.user_privacy import CLIENTS, LedgerMechanism
from strategies.central.central_dp import CentralDP
from strategies.central.dp_ftrl import DpFtrl
from strategies.central.mechanism import InMemory
from strategies.central.user_level import UserLevel
from support.central import seeded, update

MODEL = {"w": np.zeros(4, np.float32)}
DELTA = 1e-5
ROUNDS = 2
CANARY = {"w": np.array([50.0, 0, 0, 0], np.float32)}
"""Fifty times as long as the clip norm; it claims a thousand examples."""
OTHER = {"w": np.array([0, 50.0, 0, 0], np.float32)}
KINDS: Mapping[str, UserLevel] = {
    "fixed": CentralDP(epsilon=6.0, delta=DELTA, expected_clients=2),
    "adaptive": CentralDP(epsilon=6.0, delta=DELTA, expected_clients=2, target_quantile=0.5),
    "tree": DpFtrl(epsilon=6.0, delta=DELTA, expected_clients=2, restart_every=ROUNDS),
}


@dataclass(frozen=True)
class HalfTheNoise:
    """Bug: a standard deviation that is half of the promised one."""

    source: NoiseSource
    simulated: bool = True

    def normal(self, step, tensor, shape):
        return self.source.normal(step, tensor, shape) * 0.5

    def poisson_mask(self, step, examples, sample_rate):
        return self.source.poisson_mask(step, examples, sample_rate)


def scores_of(strategy: UserLevel, sigma: float, noise: Callable[[int], Callable[[int], NoiseSource]], trials: int):
    """What all models of a run show along the canary's direction; it takes part whenever its accounting lets it.

    In a tree that is the first round alone, and the best look at it is at all prefixes.
    """
    tree = isinstance(strategy, DpFtrl)

    def run(canary: bool, trial: int) -> float:
        running = strategy.bound_to(InMemory(sigma, strategy.parts(MODEL), noise(2 * trial + canary)))
        state, models = running.init(MODEL), [MODEL]
        for number in range(ROUNDS):
            state = running.accumulate(state, update(1, OTHER))
            if canary and not (tree and number):
                state = running.accumulate(state, update(0, CANARY, weight=1000))
            state = running.finish(state)
            models.append(state.model)
        steps = [float(b["w"][0] - a["w"][0]) for a, b in itertools.pairwise(models)]
        # prefix 1 is node 0 and prefix 2 is node 1: both hold the first round
        return steps[0] + (steps[0] + steps[1]) if tree else sum(steps)

    return collect(run, trials)


def claimed(strategy: UserLevel, folder: Path) -> float:
    """What the server's real ledger says after the same rounds."""
    ledger = Ledger(folder / "ledger.db", simulated=True)
    ledger.enrol(CLIENTS, 1)
    mechanism = LedgerMechanism(ledger, strategy, strategy.calibrate(ROUNDS), strategy.parts(MODEL), seeded(0))
    running = strategy.bound_to(mechanism)
    state = running.init(MODEL)
    for _ in range(ROUNDS):
        state = running.finish(state)
    spent = mechanism.spent()
    ledger.close()
    return spent


def found(scores: CanaryScores, confidence: float = 0.99) -> float:
    return gaussian_epsilon_lower_bound(scores, DELTA, confidence)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_real_code_passes_and_the_audit_sees_something(kind, tmp_path):
    strategy = KINDS[kind]
    lower = found(scores_of(strategy, strategy.calibrate(ROUNDS), seeded, 300))
    assert 1.5 < lower <= claimed(strategy, tmp_path) <= 6.0


def test_the_real_code_with_secret_noise_passes(tmp_path):
    strategy = KINDS["fixed"]
    scores = scores_of(strategy, strategy.calibrate(ROUNDS), lambda _: lambda _: SecretNoise(), 200)
    assert found(scores, confidence=1 - 1e-6) <= claimed(strategy, tmp_path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_half_the_noise_is_caught(kind, tmp_path):
    strategy = KINDS[kind]
    broken = scores_of(
        strategy, strategy.calibrate(ROUNDS), lambda trial: lambda round: HalfTheNoise(seeded(trial)(round)), 300
    )
    assert found(broken) > claimed(strategy, tmp_path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_clipping_switched_off_is_caught(kind, tmp_path):
    strategy, wide = KINDS[kind], 1e6
    unclipped = dataclasses.replace(strategy, clip_norm=wide)
    broken = scores_of(unclipped, strategy.calibrate(ROUNDS) / wide, seeded, 100)
    assert found(broken) > claimed(strategy, tmp_path)


def test_weights_that_count_examples_are_caught(tmp_path):
    """Noise for equal weights, and a client that counts as five."""

    class Weighted(CentralDP):
        def accumulate(self, state, update):
            for _ in range(5):  # as five clients
                state = super().accumulate(state, update)
            return state

    strategy = Weighted(epsilon=6.0, delta=DELTA, expected_clients=2)
    assert found(scores_of(strategy, strategy.calibrate(ROUNDS), seeded, 200)) > claimed(strategy, tmp_path)
