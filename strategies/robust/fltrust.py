"""FLTrust, Cao et al. 2020, arXiv 2012.13995.

    trust_k = max(0, cos(delta_k, delta_root))
    delta = sum_k trust_k * |delta_root| / |delta_k| * delta_k / sum_k trust_k

The root update is trained by the server's operator on a small clean set of its own. Here it comes from a client like
any other: the operator runs one, named ``root``, and every round has to ask it. It is trusted and not averaged. A round
without it moves nothing, nor does one in which nobody is trusted. Any number of liars is withstood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.robust.rule import Matrix, RobustRule, RoundFacts


@dataclass(frozen=True, kw_only=True)
class FLTrust(RobustRule):
    """Every update counts as far as it points where the root update points, and with its length."""

    root: str = "root"
    """client_id of the client that the operator runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root:
            raise ValueError("strategy.args.root: expected the client_id of the operator's own client, got ''")

    @property
    def least_updates(self) -> int:
        """2: the root's update and one other."""
        return 2

    def aggregate(self, rows_ND: Matrix, facts: RoundFacts) -> Matrix | None:
        """One vector [D]: the mean of all other rows, weighted by trust; None without a root or without trust."""
        if self.root not in facts.client_ids:
            return None
        at = facts.client_ids.index(self.root)
        root_D, rows_ND = rows_ND[at], np.delete(rows_ND, at, axis=0)
        sizes_N = np.linalg.norm(rows_ND, axis=1)
        products_N = sizes_N * np.linalg.norm(root_D)
        safe_N = np.where(products_N > 0, products_N, 1.0)
        trust_N = np.where(products_N > 0, np.maximum(rows_ND @ root_D / safe_N, 0.0), 0.0)
        if not trust_N.any():
            return None
        rescaled_ND = rows_ND * (np.linalg.norm(root_D) / np.where(sizes_N > 0, sizes_N, 1.0))[:, None]
        mean_D: Matrix = (trust_N[:, None] * rescaled_ND).sum(axis=0) / trust_N.sum()
        return mean_D
