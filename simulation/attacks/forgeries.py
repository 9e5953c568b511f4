"""Attacks on the update, each with its source; the rows of a forgery are what the attackers send.

Where a strength is tuned, the paper's constant is replaced by the one that harms the defence at hand most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulation.attacks.base import Attack, AttackerView, TunedAttack
from strategies.robust.rule import Matrix


@dataclass(frozen=True)
class SignFlip(TunedAttack):
    """Each attacker sends its own honest update turned round: -strength * delta_k (arXiv 1705.09056)."""

    def prepare(self, view: AttackerView) -> Callable[[float], Matrix]:
        """The forged updates [A, D] as a function of the strength."""
        return lambda strength: -strength * view.own_AD


@dataclass(frozen=True)
class InnerProduct(TunedAttack):
    """Inner product manipulation (IPM), Xie et al. 2019, arXiv 1903.03936: all send -strength * mean of the honest."""

    def prepare(self, view: AttackerView) -> Callable[[float], Matrix]:
        """The forged updates [A, D] as a function of the strength."""
        mean_D = view.honest_ND.mean(axis=0)
        return lambda strength: alike(-strength * mean_D, view)


@dataclass(frozen=True)
class LittleIsEnough(TunedAttack):
    """A little is enough (ALIE), Baruch et al. 2019, arXiv 1902.06156: all send mean - strength * deviation.

    Mean and standard deviation are those of the honest updates, by coordinate: within their spread no rule can tell.
    """

    def prepare(self, view: AttackerView) -> Callable[[float], Matrix]:
        """The forged updates [A, D] as a function of the strength."""
        mean_D, deviation_D = view.honest_ND.mean(axis=0), spread(view)
        return lambda strength: alike(mean_D - strength * deviation_D, view)


@dataclass(frozen=True)
class MinMax(Attack):
    """Min-max, Shejwalkar and Houmansadr, NDSS 2021, doi 10.14722/ndss.2021.24498.

    All send mean + gamma * p with the largest gamma for which the forgery is no farther from any honest update than
    two honest ones are from each other. p is minus the mean, minus the deviation or minus the sign of the mean, each of
    unit length: the one that harms the defence most.
    """

    def forge(self, view: AttackerView) -> Matrix:
        """The forged updates [A, D] along the most harmful of the three directions."""
        mean_D = view.honest_ND.mean(axis=0)
        directions = (unit(-mean_D), unit(-spread(view)), unit(-np.sign(mean_D)))
        forgeries = [alike(mean_D + reach(view.honest_ND, p_D) * p_D, view) for p_D in directions]
        harms = [view.damage(forged_AD) for forged_AD in forgeries]
        return forgeries[int(np.argmax(harms))]


@dataclass(frozen=True)
class Gaussian(TunedAttack):
    """Noise of its own for each attacker, N(0, strength^2) in units of the honest updates' root mean square."""

    def prepare(self, view: AttackerView) -> Callable[[float], Matrix]:
        """The forged updates [A, D] as a function of the strength."""
        noise_AD = view.draw.standard_normal(view.own_AD.shape) * np.sqrt(np.mean(np.square(view.honest_ND)))
        return lambda strength: strength * noise_AD


@dataclass(frozen=True)
class NotANumber(Attack):
    """Every value is NaN: one of them would ruin a mean that nobody guards."""

    def forge(self, view: AttackerView) -> Matrix:
        """Updates [A, D] of NaN alone."""
        return np.full_like(view.own_AD, np.nan)


def alike(vector_D: Matrix, view: AttackerView) -> Matrix:
    """[A, D]: one vector [D] as the update of every attacker."""
    return np.tile(vector_D, (len(view.own_AD), 1))


def spread(view: AttackerView) -> Matrix:
    """[D]: standard deviation of the honest updates; zero for a single one."""
    deviation_D: Matrix = view.honest_ND.std(axis=0, ddof=1 if len(view.honest_ND) > 1 else 0)
    return deviation_D


def unit(vector_D: Matrix) -> Matrix:
    """The vector at length 1; zero stays zero."""
    size = float(np.linalg.norm(vector_D))
    return vector_D / size if size > 0 else vector_D


def reach(honest_ND: Matrix, direction_D: Matrix) -> float:
    """The largest gamma with max_k |mean + gamma * p - delta_k| <= max_jk |delta_j - delta_k|, in closed form.

    |a_k + gamma * p|^2 <= R^2 is a parabola in gamma for every k, with a_k = mean - delta_k.
    """
    away_ND = honest_ND.mean(axis=0) - honest_ND
    widest_sq = max(float(np.square(row_D - honest_ND).sum(axis=1).max()) for row_D in honest_ND)
    if not direction_D.any():
        return 0.0
    along_N = away_ND @ direction_D
    room_N = np.square(along_N) + widest_sq - np.square(away_ND).sum(axis=1)
    return float(np.min(np.sqrt(np.maximum(room_N, 0.0)) - along_N))
