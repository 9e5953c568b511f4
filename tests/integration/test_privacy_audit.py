"""The audit passes the real private step and catches four ways of breaking it; the noise is measured directly too.

Every bug is put in by composition: a broken noise source, terms that belie the clip norm, a ledger begun anew each
round. The code that audits is the same for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from fl_core.privacy.audit import (
    CanaryScores,
    collect,
    epsilon_lower_bound,
    gaussian_epsilon,
    gaussian_epsilon_lower_bound,
)
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import BoolArray, NoiseSource, NormalArray, SecretNoise, SeededNoise
from fl_core.types import DpTerms

DELTA = 1e-5
FULL_BATCH = DpTerms(
    epsilon=50, delta=DELTA, clip_norm=1.0, noise_multiplier=2**0.5, sample_rate=1.0, steps=2, normaliser=4.0
)
"""Two steps over everything: exactly two Gaussians at distance 1."""
EXAMPLES = 80
BATCHES_PER_EPOCH = 40
SAMPLED = dataclasses.replace(
    FULL_BATCH, noise_multiplier=1.0, sample_rate=1 / BATCHES_PER_EPOCH, steps=4 * BATCHES_PER_EPOCH
)
"""Four epochs of Poisson samples."""
SAMPLED_DELTA = 0.03
"""A history is bounded at every delta; at a large one, few runs are enough to show that it is not."""
LAST_OF_EPOCHS = range(BATCHES_PER_EPOCH - 1, SAMPLED.steps, BATCHES_PER_EPOCH)
"""The attacker looks at these steps alone: whoever sees less proves less, so the bound stays one."""


@dataclass(frozen=True)
class ScaledNoise:
    """Bug: the noise has another size than it should."""

    source: NoiseSource
    scale: float
    simulated: bool = True

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        return self.source.normal(step, tensor, shape) * self.scale

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        return self.source.poisson_mask(step, examples, sample_rate)


@dataclass(frozen=True)
class ShuffledBatches:
    """Bug: batches of a fixed size from a list that is shuffled each epoch, as a stock data loader makes them."""

    source: NoiseSource
    batch_size: int
    seed: int
    simulated: bool = True

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        return self.source.normal(step, tensor, shape)

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        epoch, batch = divmod(step, BATCHES_PER_EPOCH)
        place = np.random.default_rng((self.seed, epoch)).permutation(examples)
        return place // self.batch_size == batch


NoiseMaker = Callable[[int], NoiseSource]


def seeded(trial: int) -> NoiseSource:
    return SeededNoise(trial, "audit", 1, "client")


def scores_of(
    terms: DpTerms, make_noise: NoiseMaker, trials: int, others: tuple[float, float], steps: Sequence[int]
) -> CanaryScores:
    """Train for real; the score is what the watched steps show along the canary's direction.

    The gradient of an example is the example itself, ten times as long as the clip norm.
    """
    model = torch.nn.Linear(2, 1, bias=False)
    without = torch.tensor([others] * (EXAMPLES - 1))
    with_canary = torch.cat([torch.tensor([[10.0, 0.0]]), without])

    def run(canary: bool, trial: int) -> float:
        x_NX, score = with_canary if canary else without, 0.0
        with PrivateStep(model, terms, make_noise(2 * trial + canary)) as private:
            for step in steps:
                private.step(step, x_NX, x_NX[:, 0], lambda model, x_BX, _: model(x_BX)[:, 0])
                assert model.weight.grad is not None
                score += float(model.weight.grad[0, 0])
        return score

    return collect(run, trials)


def over_everything(terms: DpTerms, make_noise: NoiseMaker, trials: int = 400) -> CanaryScores:
    """The other examples say nothing along the canary's direction, and no step is left out."""
    return scores_of(terms, make_noise, trials, (0.0, 10.0), range(terms.steps))


def in_samples(make_noise: NoiseMaker, trials: int = 400) -> CanaryScores:
    """All examples pull the same way: where batches have a fixed size, the last one of an epoch tells how many."""
    return scores_of(SAMPLED, make_noise, trials, (10.0, 0.0), LAST_OF_EPOCHS)


def claimed(terms: DpTerms, folder: Path, rounds: int = 1, delta: float = DELTA, ledgers: int = 1) -> float:
    """What the ledger says after some rounds; a bug begins a new one each round."""
    policy = DevicePolicy(
        epsilon_cap=100, delta=DELTA, max_clip_norm=100, min_noise_multiplier=1e-3, max_sample_rate=1.0
    )
    spent = 0.0
    for number in range(rounds):
        ledger = Ledger(folder / f"{number % ledgers}.db")
        ledger.enrol("data", 1)
        ledger.reserve("data", f"task {number}", terms, policy)
        spent = ledger.spent("data", delta)
        ledger.close()
    return spent


def test_the_real_step_over_everything_passes(tmp_path: Path) -> None:
    found = gaussian_epsilon_lower_bound(over_everything(FULL_BATCH, seeded, trials=600), DELTA)
    assert 2.0 < found <= claimed(FULL_BATCH, tmp_path)


def test_the_real_step_with_secret_noise_passes(tmp_path: Path) -> None:
    scores = over_everything(FULL_BATCH, lambda _: SecretNoise())
    assert gaussian_epsilon_lower_bound(scores, DELTA, confidence=1 - 1e-6) <= claimed(FULL_BATCH, tmp_path)


def test_the_real_sampled_step_passes(tmp_path: Path) -> None:
    assert epsilon_lower_bound(in_samples(seeded), SAMPLED_DELTA) <= claimed(SAMPLED, tmp_path, delta=SAMPLED_DELTA)


def test_half_the_noise_is_caught(tmp_path: Path) -> None:
    broken = over_everything(FULL_BATCH, lambda trial: ScaledNoise(seeded(trial), 0.5))
    assert gaussian_epsilon_lower_bound(broken, DELTA) > claimed(FULL_BATCH, tmp_path)


def test_clipping_switched_off_is_caught(tmp_path: Path) -> None:
    unclipped = dataclasses.replace(FULL_BATCH, clip_norm=1e6, noise_multiplier=FULL_BATCH.noise_multiplier / 1e6)
    broken = over_everything(unclipped, seeded)
    assert gaussian_epsilon_lower_bound(broken, DELTA) > claimed(FULL_BATCH, tmp_path)


def test_shuffled_batches_accounted_as_poisson_are_caught(tmp_path: Path) -> None:
    batch_size = EXAMPLES // BATCHES_PER_EPOCH
    broken = in_samples(lambda trial: ShuffledBatches(seeded(trial), batch_size, trial))
    assert epsilon_lower_bound(broken, SAMPLED_DELTA) > claimed(SAMPLED, tmp_path, delta=SAMPLED_DELTA)


def test_an_accountant_that_is_reset_each_round_is_caught(tmp_path: Path) -> None:
    rounds = 4
    whole_run = dataclasses.replace(FULL_BATCH, steps=rounds * FULL_BATCH.steps)
    found = gaussian_epsilon_lower_bound(over_everything(whole_run, seeded, trials=200), DELTA)
    (tmp_path / "reset").mkdir()
    assert found > claimed(FULL_BATCH, tmp_path / "reset", rounds, ledgers=rounds)
    assert found <= claimed(FULL_BATCH, tmp_path, rounds)


@pytest.mark.parametrize(("scale", "sound"), [(1.0, True), (0.9, False), (1.1, False)])
def test_the_variance_of_the_noise_is_the_one_that_was_promised(scale: float, sound: bool) -> None:
    model = torch.nn.Linear(400, 250)
    terms = dataclasses.replace(FULL_BATCH, clip_norm=0.3, noise_multiplier=1.7, normaliser=64.0)
    with PrivateStep(model, terms, ScaledNoise(SecretNoise(), scale)) as private:
        private.step(0, torch.zeros(0, 400), torch.zeros(0), lambda model, x_BX, _: model(x_BX)[:, 0])
    assert model.weight.grad is not None
    draws = model.weight.grad.double().numpy().ravel() * terms.normaliser / (0.3 * 1.7)
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], draws.size)
    assert bool(low < float((draws**2).sum()) < high) == sound


def test_false_alarms_are_as_rare_as_the_confidence_says() -> None:
    """Two hundred audits of an ideal Gaussian mechanism whose epsilon is known exactly."""
    rng = np.random.default_rng(0)
    truth = gaussian_epsilon(1.0, DELTA)
    audits = [CanaryScores(rng.normal(size=400), rng.normal(1.0, 1.0, size=400)) for _ in range(200)]
    alarms = sum(gaussian_epsilon_lower_bound(audit, DELTA) > truth for audit in audits)
    assert alarms <= stats.binom.ppf(0.9999, 200, 0.01)
    assert all(epsilon_lower_bound(audit, DELTA) <= truth for audit in audits)


def test_the_exact_gaussian_epsilon_solves_its_equation() -> None:
    for mu in (0.1, 1.0, 4.0):
        solved = gaussian_epsilon(mu, DELTA)
        delta = stats.norm.cdf(mu / 2 - solved / mu) - np.exp(solved) * stats.norm.cdf(-mu / 2 - solved / mu)
        assert delta == pytest.approx(DELTA, rel=1e-6)
