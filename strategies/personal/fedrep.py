"""FedRep, Collins et al. 2021, arXiv 2102.07078: first the client's own head, then the common body under it.

    every round:  w_head_k <- head_epochs passes with the received body held
                  w_body_k <- body_epochs passes with that head held
                  x_body <- x_body + mean(w_body_k - x_body);    w_head_k stays at home

The server's head is the untrained one, so its accuracy says nothing: what counts is each client's personal accuracy.
Refused under DP: the body's gradient is taken at a head that steps of another phase have moved. FedPer, which trains
both in one phase, can be had privately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fl_core.tree import add_scaled
from fl_core.types import Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import Phase
from strategies.layers import last_layer, tensors_of_layers
from strategies.personal.home import kept_home


@dataclass(frozen=True)
class FedRep(Strategy):
    """Head and body of the net are trained in turns.

    Args:
        head_epochs: passes of the head, which the paper lets adapt well.
        body_epochs: passes of the body; None as the config says.
        layers: paths of the head's layers; the last one where none is named. A layer's learned range goes with it.
    """

    traits: ClassVar[frozenset[Trait]] = frozenset({"several_phases"})

    head_epochs: int = 5
    body_epochs: int | None = None
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("head_epochs", "body_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"strategy.args.{name}: expected at least 1, got {value}")

    def phases(self) -> Sequence[Phase]:
        """Two phases: the head with the body held, then the body with the head held."""
        return (
            Phase("head", moves="home", epochs=self.head_epochs),
            Phase("body", moves="travelling", epochs=self.body_epochs),
        )

    def stays_home(self, names: Sequence[str]) -> frozenset[str]:
        """The names of the tensors of the head.

        Raises:
            ModelError: the head has none, or nothing else would travel.
        """
        return kept_home("FedRep", lambda all: tensors_of_layers(self.layers or (last_layer(all),), all), names)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The model moved to x + mean_delta, which is zero for what stays at home."""
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
