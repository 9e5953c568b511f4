"""FedBN-style, after Li et al. 2021, arXiv 2102.07623: what adapts a net to its client's own inputs stays at home.

    every round:  w_k <- K steps on the loss of client k, from (x, own_k)
                  x <- x + mean(w_k - x) for all but own_k, which stays at home

The paper keeps the batch normalisation. A model that is to run in integers has none: normalisation is folded into its
convolution before training, where its shift is the bias and the spread that it saw is the range of the activation. So
these two are kept: biases, and learned ranges where ``quant.ranges`` is learned. The paper's running statistics have
no counterpart. Under DP they are trained with noise like all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.personal.home import kept_home


@dataclass(frozen=True)
class FedBN(Strategy):
    """FedAvg of all but shifts and ranges.

    Args:
        tensors: last parts of the names of what stays at home.
    """

    tensors: Sequence[str] = ("bias", "log_scale")

    def stays_home(self, names: Sequence[str]) -> frozenset[str]:
        """The names of the shifts and ranges of every layer.

        Raises:
            ModelError: the model has none, or nothing else.
        """
        own = frozenset(name for name in names if name.rpartition(".")[2] in self.tensors)
        return kept_home("FedBN", lambda all: own, names)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to x + mean_delta, which is zero for what stays at home."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
