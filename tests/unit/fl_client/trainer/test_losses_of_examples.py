"""A loss that is not one for each example is refused by local training in the same words with and without privacy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_core.errors import ModelError
from strategies.fedavg import FedAvg
from support.local import NO_NOISE, Client


@dataclass(frozen=True)
class OneLoss(FedAvg):
    """A strategy whose loss is one mean over the batch."""

    def example_loss(self, *given: Any) -> torch.Tensor:
        return super().example_loss(*given).mean()


def test_a_strategy_that_takes_the_mean_is_refused_by_each_way_of_training(tmp_path: Path) -> None:
    client = Client.of(tmp_path, "fedavg", {})
    client.setup = replace(client.setup, strategy=OneLoss())
    for terms in (None, NO_NOISE):
        with pytest.raises(ModelError, match=r"example_loss: expected one loss for each of 48 examples, .* got \[\]"):
            client.train(client.start, dp=terms)
