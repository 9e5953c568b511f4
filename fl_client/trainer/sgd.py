"""Stochastic gradient descent with momentum and weight decay: the same bits as ``torch.optim.SGD``.

Making one of torch's optimizers imports its compiler, which takes longer than a round of a small federation: over a
second in every process that trains, boards included.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sgd:
    """Steps of ``params`` against their ``grad``; a parameter without one is left where it is.

    With ``momentum`` m the step follows a velocity v = m v + g, which is the first gradient itself at first; with
    ``weight_decay`` d the gradient is g + d p.
    """

    params: Collection[nn.Parameter]
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    _velocities: dict[nn.Parameter, Tensor] = field(default_factory=dict)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params:
            param.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for param in self.params:
            if param.grad is None:
                continue
            move = param.grad
            if self.weight_decay:
                move = move.add(param, alpha=self.weight_decay)
            if self.momentum:
                before = self._velocities.get(param)
                move = move.clone() if before is None else before.mul_(self.momentum).add_(move)
                self._velocities[param] = move
            param.add_(move, alpha=-self.learning_rate)
