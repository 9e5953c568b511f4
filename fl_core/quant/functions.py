"""Elementwise functions that integers do by look-up, as training has them: one row a function.

A row is all that the quantization-aware model knows of a function; ``readers`` says which torch layers mean it. Its
integer tables stand in ``fl_core.export.tables``, without torch, and the integer evaluator keeps a computation of its
own, so that neither can repeat a mistake of the other; tests hold the three together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Function:
    """An elementwise function with its gradient, and the range of its results."""

    forward: Callable[[Tensor], Tensor]
    range: tuple[float, float]
    """Range of its output where nothing better is known; its lower end is the least value it can take."""
    bounded: bool
    """Whether ``range`` holds every value it can take, so that there is nothing to learn or to measure."""


FUNCTIONS: Mapping[str, Function] = {
    "hard_swish": Function(F.hardswish, (-0.375, 8.0), bounded=False),
    "sigmoid": Function(torch.sigmoid, (0.0, 1.0), bounded=True),
}
