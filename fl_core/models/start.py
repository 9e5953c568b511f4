"""How nets without normalisation begin, and the public ranges that fit such a beginning."""

from __future__ import annotations

from torch import nn

ACTIVATION_RANGE = (0.0, 4.0)
"""Range of a ReLU in a net that begins with He's variance on inputs in -1..1: a few standard deviations. A wider one
spends its 256 levels on values that do not come, and a step coarser than the signal stops training."""
LOGITS_RANGE = (-12.0, 12.0)
"""Range of logits: a softmax is certain long before its ends."""


def he_start(model: nn.Module) -> nn.Module:
    """The model with He's normal initialisation (arXiv 1502.01852) from torch's generator, and biases of zero."""
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def ranged_relu() -> nn.ReLU:
    """A ReLU that tells the quantizer ``ACTIVATION_RANGE``."""
    relu = nn.ReLU()
    relu.output_range = ACTIVATION_RANGE  # type: ignore[assignment]
    return relu


def ranged_logits(inputs: int, outputs: int) -> nn.Linear:
    """A last layer that tells the quantizer ``LOGITS_RANGE``."""
    layer = nn.Linear(inputs, outputs)
    layer.output_range = LOGITS_RANGE  # type: ignore[assignment]
    return layer
