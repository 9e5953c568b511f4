"""FedPer, Arivazhagan et al. 2019, arXiv 1912.00818: base layers are common, the last layers are each client's own.

    every round:  (w_base, w_head_k) <- K steps on the loss of client k, both together, from (x_base, w_head_k)
                  x_base <- x_base + mean(w_base_k - x_base);    w_head_k stays at home

The server's head is the untrained one, so its accuracy says nothing: what counts is each client's personal accuracy.
Under DP the head is trained with noise like all else, for the base's gradient is taken through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.layers import last_layer, tensors_of_layers
from strategies.personal.home import kept_home


@dataclass(frozen=True)
class FedPer(Strategy):
    """FedAvg of all but the personal layers.

    Args:
        layers: paths of the personal layers; the last one where none is named. A layer's learned range goes with it.
    """

    layers: Sequence[str] = ()

    def stays_home(self, names: Sequence[str]) -> frozenset[str]:
        """The names of the tensors of the personal layers.

        Raises:
            ModelError: these layers have none, or nothing else would travel.
        """
        return kept_home("FedPer", lambda all: tensors_of_layers(self.layers or (last_layer(all),), all), names)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to x + mean_delta, which is zero for what stays at home."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
