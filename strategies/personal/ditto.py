"""Ditto, Li et al. 2021, arXiv 2012.04221: alongside the common model every client trains one of its own.

Each round, after (or before: they do not meet) the common model's part, from the client's v_k of its last round:

    v_k <- v_k - lr * (gradient(v_k) + strength * (v_k - x))        x: the received weights

``strength`` is the paper's lambda: 0 is a model of one's own data, large is the common model. A client's first v_k is
x. The common model may be that of any inner strategy; the paper takes FedAvg. v_k never leaves, so under DP it is
trained without noise and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strategies.client import PERSONAL, ClientContext, Phase
from strategies.personal.alongside import Alongside

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Ditto(Alongside):
    """A personal model that a pull of weight ``strength`` ties to the common one."""

    strength: float = 0.1

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"strategy.args.strength: expected at least 0, got {self.strength}")
        super().__post_init__()

    def personal_phase(self) -> Phase:
        """A personal phase that starts from the client's own model of its last accepted round."""
        return Phase(PERSONAL, personal=True, starts_from="personal", epochs=self.epochs)

    def pull(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """strength * (v - x), by parameter name."""
        return {name: self.strength * (param.detach() - context.anchor[name]) for name, param in params.items()}
