"""Does the code keep the promise? A lower bound on epsilon, from watching the private training itself.

The same training is run many times with and without one canary example, and whoever sees all noisy gradients guesses
which it was. How often the guess is right bounds epsilon from below, whatever the accountant says: a lower bound over
the claimed epsilon proves a bug. A bound below it proves nothing; half the noise is found, a tenth less noise is
not, so the variance of the noise deserves a test of its own. No run calls this: it is the seam for audits, in the
tests today.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Values = npt.NDArray[np.float64]

_THRESHOLDS = 200
"""Candidates for the score that divides the guesses; G counts them in the names of arrays."""


@dataclass(frozen=True)
class CanaryScores:
    """One score per training run, larger where the canary seems to have taken part."""

    without: Values
    with_canary: Values


def collect(run: Callable[[bool, int], float], trials: int) -> CanaryScores:
    """Run a training ``2 * trials`` times: ``run(canary, trial)`` trains for real and gives its score."""
    return CanaryScores(
        np.array([run(False, trial) for trial in range(trials)], dtype=np.float64),
        np.array([run(True, trial) for trial in range(trials)], dtype=np.float64),
    )


def epsilon_lower_bound(scores: CanaryScores, delta: float, confidence: float = 0.99) -> float:
    """Largest epsilon at ``delta`` that the guesses rule out, for any mechanism whatsoever.

    From the hypothesis-testing form of differential privacy (arXiv 2006.07709): a guess with true positive rate t
    and false positive rate f shows epsilon >= ln((t - delta) / f), both rates at their pessimistic Clopper-Pearson
    limits. It cannot pass the logarithm of the number of trials; a larger delta makes it sharper.

    Raises:
        ValueError: there are fewer than 2 runs of a kind.
    """

    def bound(false_positive_G: Values, true_positive_G: Values) -> Values:
        with np.errstate(divide="ignore", invalid="ignore"):
            forwards_G = np.log((true_positive_G - delta) / false_positive_G)
            backwards_G = np.log((1 - false_positive_G - delta) / (1 - true_positive_G))
        return np.nan_to_num(np.fmax(forwards_G, backwards_G), nan=0.0)

    return max(0.0, _best_guess(scores, confidence, bound))


def gaussian_epsilon_lower_bound(scores: CanaryScores, delta: float, confidence: float = 0.99) -> float:
    """Largest epsilon at ``delta`` that the guesses rule out where every step takes all examples: a Gaussian mechanism.

    With few trials it is far tighter than the bound for any mechanism.

    The rates bound the distance mu between the two Gaussians from below, which fixes epsilon at every delta
    (arXiv 1905.02383, 2302.07956). Not valid for sampled batches, whose trade-off curve is another one.

    Raises:
        ValueError: there are fewer than 2 runs of a kind.
    """

    def bound(false_positive_G: Values, true_positive_G: Values) -> Values:
        return np.asarray(special.ndtri(true_positive_G) - special.ndtri(false_positive_G))

    mu = _best_guess(scores, confidence, bound)
    return gaussian_epsilon(mu, delta) if mu > 0 else 0.0


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Exact epsilon at ``delta`` of telling N(mu, 1) from N(0, 1) (arXiv 1805.06530, theorem 8)."""

    def excess(epsilon: float) -> float:
        log_tail = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
        return float(special.ndtr(mu / 2 - epsilon / mu) - math.exp(log_tail) - delta)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, mu * mu / 2 + 40 * mu))


def _best_guess(scores: CanaryScores, confidence: float, bound: Callable[[Values, Values], Values]) -> float:
    """The bound at a threshold that one half of the runs chooses and the other half is judged by."""
    runs = min(len(scores.without), len(scores.with_canary))
    if runs < 2:
        raise ValueError(f"an audit needs at least 2 runs of each kind, got {runs}")
    half = runs // 2
    # Each of the two rates may miss its interval in half of the cases that the confidence leaves.
    risk = (1 - confidence) / 2

    def judge(threshold_G: Values, part: slice) -> Values:
        false_positives_G = (scores.without[part, None] > threshold_G).sum(axis=0)
        true_positives_G = (scores.with_canary[part, None] > threshold_G).sum(axis=0)
        return bound(_upper_limit(false_positives_G, half, risk), _lower_limit(true_positives_G, half, risk))

    chosen_by, judged_by = slice(0, half), slice(half, 2 * half)
    everything = np.concatenate([scores.without[chosen_by], scores.with_canary[chosen_by]])
    threshold_G = np.quantile(everything, np.linspace(0.0, 1.0, _THRESHOLDS))
    best = int(np.argmax(judge(threshold_G, chosen_by)))
    return float(judge(threshold_G[best : best + 1], judged_by)[0])


def _upper_limit(hits_G: npt.NDArray[np.int64], trials: int, risk: float) -> Values:
    """Clopper-Pearson: the rate is larger in a share ``risk`` of cases only."""
    limit_G = special.betaincinv(hits_G + 1, np.maximum(trials - hits_G, 1), 1 - risk)
    return np.where(hits_G == trials, 1.0, limit_G)


def _lower_limit(hits_G: npt.NDArray[np.int64], trials: int, risk: float) -> Values:
    limit_G = special.betaincinv(np.maximum(hits_G, 1), trials - hits_G + 1, risk)
    return np.where(hits_G == 0, 0.0, limit_G)
