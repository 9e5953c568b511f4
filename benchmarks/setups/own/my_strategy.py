"""FedAvg whose steps shrink from round to round."""

from dataclasses import dataclass, replace

from fl_core.tree import add_scaled
from strategies.base import MODEL_PART, Strategy


@dataclass(frozen=True)
class Calming(Strategy):
    decay: float = 0.9

    def server_step(self, state, means):
        step = self.decay**state.version
        return replace(state, model=add_scaled(state.model, means[MODEL_PART], step))
