"""The weights of a net as named arrays: read from it, and written into it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fl_core.errors import ModelError
from fl_core.types import FloatArray, Tensors


def trainable_tensors(model: nn.Module) -> dict[str, FloatArray]:
    """Copies of all parameters that are trained, by name in sorted order."""
    named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: np.array(param.detach().numpy(), dtype=np.float32, copy=True) for name, param in named}


def load_tensors(model: nn.Module, tensors: Tensors) -> None:
    """Write ``tensors`` into the trainable parameters of ``model``.

    Raises:
        ModelError: names or shapes differ.
    """
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if params.keys() != tensors.keys():
        raise ModelError(f"model: expected tensors {sorted(params)}, got {sorted(tensors)}")
    for name, param in params.items():
        if tuple(param.shape) != tuple(tensors[name].shape):
            raise ModelError(f"model: expected {name} of shape {tuple(param.shape)}, got {tensors[name].shape}")
        with torch.no_grad():
            param.copy_(torch.from_numpy(np.array(tensors[name], dtype=np.float32)))
