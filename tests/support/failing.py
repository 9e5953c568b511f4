"""A strategy whose clients fail while they train, as a fault in somebody's own code makes them, and data for it.

Nothing before the first round can know of it: the fault is in what a client alone does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import toy
from torch import nn

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.tasks.base import Task
from strategies.client import ClientContext
from strategies.fedavg import FedAvg

LINES = "no such number\n  in this room\n\n"
"""What the clients fail with, in several lines as some libraries write them."""
BROKEN = "client-1"
"""The client whose inputs are all alike."""


@dataclass(frozen=True)
class FailsAtHome(FedAvg):
    """FedAvg whose clients fail: all of them while ``everyone`` is set, else the one whose inputs are all alike."""

    everyone: ClassVar[bool] = False

    def example_loss(
        self, task: Task, net: nn.Module, x_BX: torch.Tensor, y_BX: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """The task's loss, or an error in several lines."""
        if self.everyone or bool((x_BX == x_BX.flatten()[0]).all()):
            raise RuntimeError(LINES)
        return super().example_loss(task, net, x_BX, y_BX, context)


RAISED_AT = FailsAtHome.example_loss.__code__.co_firstlineno + 5
ONE_LINE = f"RuntimeError: no such number in this room ({os.path.relpath(__file__)}, line {RAISED_AT}, in example_loss)"
"""How a reader has what its clients fail with."""


class TwoNumbersError(Exception):
    """An error that no other process can make again of what it is pickled as."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"not {one} but {two}")


class FailsAnywhere(FedAvg):
    """FedAvg whose clients all fail, in each process, with an error that cannot travel."""

    def example_loss(
        self, task: Task, net: nn.Module, x_BX: torch.Tensor, y_BX: torch.Tensor, context: ClientContext
    ) -> torch.Tensor:
        """Nothing but the error."""
        raise TwoNumbersError(1, 2)


def rooms() -> Federation:
    """The toy federation of three clients, of whom ``BROKEN`` has inputs that are all alike."""
    whole = toy.data(clients=3)
    clients: Mapping[str, ClientData] = whole.clients
    train = clients[BROKEN].train
    alike = replace(clients[BROKEN], train=Examples(np.full_like(train.x, 0.5), train.y))
    return replace(whole, clients={**clients, BROKEN: alike})
