"""What is found in a model before it is trained: layers that do not do what they are there for."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from fl_core.findings import Finding
from fl_server.plan.inspected import Inspected


def idle_normalisation(seen: Inspected) -> Iterator[Finding]:
    """Every BatchNorm whose statistics are those that torch starts with: folded, it leaves its input as it is."""
    for name, layer in seen.traced.module.named_modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and _is_initial(layer):
            yield Finding(
                "normalisation",
                f"layer {name}: {type(layer).__name__} has its initial statistics (mean 0, variance 1) and is folded "
                "with them: it normalises nothing, and nothing of it is trained; leave it out and take a smaller "
                "learning rate, or start from weights that were trained with it",
            )


def _is_initial(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and bool((mean == 0).all() and (variance == 1).all())
