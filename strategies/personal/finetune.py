"""Local fine-tuning: each client trains the received model a little further on its own examples, for itself.

    w_k <- epochs passes of SGD on the loss of client k, from the received weights x

The plain reference for every personalised method (a study: Cheng, Chadha, Duchi 2021, arXiv 2108.07313). The inner
strategy is left as it is. The fine-tuned model starts at the weights that its round began with, so that of the last
round is one round behind the final global model. It never leaves, so under DP it is trained without noise and costs
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strategies.client import ClientContext, Phase
from strategies.personal.alongside import Alongside

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class FineTune(Alongside):
    """Fine-tuning for ``epochs`` passes; None: as many as the config says for local training."""

    def personal_phase(self) -> Phase:
        """A personal phase that starts from the received model, every round anew."""
        return Phase("finetune", personal=True, starts_from="received", epochs=self.epochs)

    def pull(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """Nothing is added: plain SGD."""
        return {}
