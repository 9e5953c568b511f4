"""Forward passes in eval mode that leave no trace, and the outputs of a frozen front end, computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fl_core.quant.fake_quant import set_fake_quant
from fl_core.quant.graph import QatModel
from fl_core.quant.split import split_frozen
from fl_core.types import FloatArray


def outputs(model: nn.Module, x: FloatArray, *, fake_quant: bool, batch_size: int = 64) -> FloatArray:
    """Outputs for all rows of ``x`` in eval mode, and no trace of that left behind.

    With ``fake_quant`` off nothing is rounded, and activations are cut to their ranges all the same: clipping is part
    of what was trained.
    """
    training = model.training
    quantized, saturated = (
        any(getattr(module, name, False) for module in model.modules()) for name in ("fake_quant", "saturate")
    )
    model.eval()
    set_fake_quant(model, fake_quant, saturate=True)
    try:
        with torch.inference_mode():
            parts = [model(torch.from_numpy(x[at : at + batch_size])).numpy() for at in range(0, len(x), batch_size)]
    finally:
        set_fake_quant(model, quantized, saturate=saturated)
        model.train(training)
    return np.concatenate(parts)


class FrozenCache:
    """A model cut behind its frozen front end, and that front end's outputs for the examples it was shown.

    Outputs are kept by a name that the caller gives to a fixed array of examples, up to ``limit_bytes`` in all.
    """

    def __init__(self, model: QatModel, limit_bytes: int = 1 << 29) -> None:
        self.whole = model
        parts = split_frozen(model)
        self.trained: QatModel = model if parts is None else parts[1]
        """What is left to compute behind the front end; the whole model where there is none."""
        self._prefix = None if parts is None else parts[0]
        self._room_bytes = limit_bytes
        self._kept: dict[tuple[str, bool], FloatArray] = {}

    def features(self, name: str, x: FloatArray, *, fake_quant: bool) -> FloatArray:
        """What ``trained`` takes as its input, for the examples ``x`` known as ``name``."""
        if self._prefix is None:
            return x
        key = name, fake_quant
        if key in self._kept:
            return self._kept[key]
        found = outputs(self._prefix, x, fake_quant=fake_quant)
        if found.nbytes <= self._room_bytes:
            self._room_bytes -= found.nbytes
            self._kept[key] = found
        return found

    def outputs(self, name: str, x: FloatArray, *, fake_quant: bool) -> FloatArray:
        """The whole model's outputs for the examples ``x`` known as ``name``."""
        return outputs(self.trained, self.features(name, x, fake_quant=fake_quant), fake_quant=fake_quant)
