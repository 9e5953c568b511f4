"""How nets without normalisation begin: He's variance for layers before a ReLU, residual branches turned down."""

from __future__ import annotations

from torch import nn


def he_start(model: nn.Module) -> nn.Module:
    """Weights with He's normal initialisation (arXiv 1502.01852) from torch's generator, biases zero; returns it."""
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
