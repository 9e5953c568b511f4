"""Fake quantization of weights, biases and activations, with the straight-through estimator (arXiv 1308.3432).

The forward computes exactly what integers would hold, in float32: ``scale * round(x * (1 / scale))``, rounding half
to even. The backward is the identity inside the range and zero where a value saturates, as for a hard tanh. Weight
scales depend on weights alone and activation ranges on no live batch (but for ``EmaRange``), so one example's
gradient never depends on another example and per-example clipping bounds the sensitivity.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.quant.lowered import QParams
from fl_core.quant.spec import GridKind

Range = tuple[float, float]

UNBOUNDED: Range = (-math.inf, math.inf)
SMALLEST_SCALE = 2.0**-60
"""Scale of an output channel that has neither weight nor bias, and the least a learned scale can become."""
LARGEST_SCALE = 2.0**60
"""The most that a learned scale can become."""
BIAS_STEPS = 2.0**30
"""Largest magnitude of an integer bias: half of int32, so that the accumulator has room for the products."""


class _StraightThrough(torch.autograd.Function):
    """Gives ``value`` in the forward and hands the gradient to ``latent`` unchanged in the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(latent: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(latent: Tensor, value: Tensor) -> Tensor:
    """``value`` in the forward, the gradient of ``latent`` in the backward. Both have the same shape."""
    out: Tensor = _StraightThrough.apply(latent, value)  # type: ignore[no-untyped-call]
    return out


def weight_scale(weight: Tensor, bias: Tensor | None, input_scale: Tensor, bits: int) -> Tensor:
    """Scale [O] of each output channel: its largest magnitude over ``2**(bits-1) - 1``.

    A channel of (nearly) no weight gets the scale at which its bias still fits int32, so that a bias alone is exact.
    """
    with torch.no_grad():
        scale_O = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
        if bias is not None:
            scale_O = torch.maximum(scale_O, bias.abs() / (input_scale * BIAS_STEPS))
        at_least: Tensor = scale_O.clamp(min=SMALLEST_SCALE)
    return at_least


def integer_weight(weight: Tensor, scale_O: Tensor) -> Tensor:
    """The weight as whole numbers in a float tensor: half to even of ``w * (1 / scale)``."""
    inverse = (1.0 / scale_O).reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight.detach() * inverse)


def integer_bias(bias: Tensor, scale_O: Tensor, input_scale: Tensor) -> Tensor:
    """The bias [O] as whole numbers at scale ``input_scale * scale_O``, within int32."""
    return torch.round(bias.detach() / (input_scale * scale_O)).clamp(-BIAS_STEPS, BIAS_STEPS)


def fake_quant_weight(
    weight: Tensor, bias: Tensor | None, input_scale: Tensor, bits: int
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias on the grids that ``lower`` writes out; no value saturates, so the gradient is the identity.

    Args:
        weight: [O, ...].
        bias: [O] or None.
        input_scale: scale of the input's quantizer, a scalar tensor.
        bits: 2 to 8; the weight takes ``-(2**(bits-1)-1) .. 2**(bits-1)-1`` (narrow range).
    """
    scale_O = weight_scale(weight, bias, input_scale, bits)
    with torch.no_grad():
        weight_on_grid = integer_weight(weight, scale_O) * scale_O.reshape(-1, *[1] * (weight.dim() - 1))
        bias_on_grid = None if bias is None else integer_bias(bias, scale_O, input_scale) * (input_scale * scale_O)
    quantized_bias = None if bias is None or bias_on_grid is None else straight_through(bias, bias_on_grid)
    return straight_through(weight, weight_on_grid), quantized_bias


def make_qparams(lo: float, hi: float, grid: GridKind, clamp: Range = UNBOUNDED) -> QParams:
    """The grid that covers ``[lo, hi]`` and zero, cut to ``clamp``, the bounds of the activation function before it.

    Raises:
        ValueError: the range is not finite, or empty.
    """
    lo, hi = min(max(lo, clamp[0]), 0.0), max(min(hi, clamp[1]), 0.0)
    if not (math.isfinite(lo) and math.isfinite(hi) and hi - lo >= SMALLEST_SCALE):
        raise ValueError(f"expected a finite range that holds more than zero, got [{lo}, {hi}]")
    if grid == "asymmetric":
        scale = float(np.float32((hi - lo) / 255))
        zero_point, qmin, qmax = min(255, max(0, round(-lo / scale))), 0, 255
    else:
        scale = float(np.float32(max(-lo, hi) / 127))
        zero_point, qmin, qmax = 0, -127, 127
    if math.isfinite(clamp[0]):
        qmin = max(qmin, zero_point + round(clamp[0] / scale))
    if math.isfinite(clamp[1]):
        qmax = min(qmax, zero_point + round(clamp[1] / scale))
    return QParams(scale, zero_point, qmin, qmax, "uint8" if grid == "asymmetric" else "int8")


class FakeQuantized(nn.Module):
    """Base of everything that ``set_fake_quant`` switches."""

    def __init__(self) -> None:
        super().__init__()
        self.fake_quant = True


def set_fake_quant(model: nn.Module, enabled: bool, *, saturate: bool = False) -> None:
    """Switch all fake quantization of ``model`` on or off: off, the same weights give the float forward.

    With ``saturate`` that forward still cuts every activation to its range, as training with fake-quant did, and
    rounds nothing: what is left between the two is the rounding alone.
    """
    for module in model.modules():
        if isinstance(module, FakeQuantized):
            module.fake_quant = enabled
        if isinstance(module, ActivationQuantizer):
            module.saturate = saturate


class ActivationQuantizer(FakeQuantized):
    """Quantizes one activation tensor and does the clamping activation function (ReLU, hard tanh) before it as well.

    With ``fake_quant`` off only the activation function remains, exactly as in the float model, and with ``saturate``
    the ends of the range as well.
    """

    def __init__(self, clamp: Range) -> None:
        super().__init__()
        self.clamp = clamp
        self.saturate = False

    @abstractmethod
    def scale(self) -> Tensor:
        """The scale now, a scalar float32 tensor without gradient."""

    @abstractmethod
    def qparams(self) -> QParams:
        """The grid now."""

    def clamped(self, x: Tensor) -> Tensor:
        """The activation function alone."""
        if self.clamp == UNBOUNDED:
            return x
        return F.relu(x) if self.clamp == (0.0, math.inf) else F.hardtanh(x, *self.clamp)

    def floating(self, x: Tensor) -> Tensor:
        """What is left with ``fake_quant`` off."""
        return F.hardtanh(x, *ends(self.qparams())) if self.saturate else self.clamped(x)


def ends(qparams: QParams) -> tuple[float, float]:
    """The lowest and the highest value on a grid."""
    below, above = qparams.qmin - qparams.zero_point, qparams.qmax - qparams.zero_point
    return below * qparams.scale, above * qparams.scale


def _quantize(x: Tensor, qparams: QParams) -> Tensor:
    inverse = float(np.float32(1) / np.float32(qparams.scale))
    inside = F.hardtanh(x, *ends(qparams))
    with torch.no_grad():
        value = inside.mul(inverse).round_().mul_(qparams.scale)
    return straight_through(inside, value)


class FixedRange(ActivationQuantizer):
    """A range that no data and no training changes: public by construction."""

    def __init__(self, lo: float, hi: float, grid: GridKind, clamp: Range = UNBOUNDED) -> None:
        super().__init__(clamp)
        self._qparams = make_qparams(lo, hi, grid, clamp)
        self._scale = torch.tensor(self._qparams.scale)

    def forward(self, x: Tensor) -> Tensor:
        return _quantize(x, self._qparams) if self.fake_quant else self.floating(x)

    def scale(self) -> Tensor:
        return self._scale

    def qparams(self) -> QParams:
        return self._qparams


class LearnedRange(ActivationQuantizer):
    """Learned step size (LSQ, arXiv 1902.08153) with a fixed zero point.

    The scale is ``initial * exp(log_scale)``, so it stays positive whatever noise is added to the parameter, and its
    gradient is divided by the square root of elements per example times levels. A scale never reaches beyond the
    bounds of the activation function.
    """

    def __init__(self, lo: float, hi: float, grid: GridKind, clamp: Range = UNBOUNDED) -> None:
        super().__init__(clamp)
        self._initial = make_qparams(lo, hi, grid, clamp)
        bounds = [b / q for b, q in zip(clamp, self.levels(), strict=True) if math.isfinite(b) and q]
        self._largest = min((float(np.float32(b)) for b in bounds), default=LARGEST_SCALE)
        self.log_scale = nn.Parameter(torch.zeros(1))

    def levels(self) -> tuple[int, int]:
        """Lowest and highest integer, counted from the zero point."""
        return self._initial.qmin - self._initial.zero_point, self._initial.qmax - self._initial.zero_point

    def free_scale(self) -> Tensor:
        """The scale before it is cut to the activation function's bounds; differentiable, a scalar."""
        return self._initial.scale * torch.exp(self.log_scale).squeeze(0)

    def scale(self) -> Tensor:
        return self.free_scale().detach().clamp(SMALLEST_SCALE, self._largest)

    def gradient_scale(self, x: Tensor) -> float:
        """What LSQ multiplies the gradient of the scale by: independent of the batch size."""
        elements = math.prod(x.shape[1:])
        return 1.0 / math.sqrt(elements * max(abs(level) for level in self.levels()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.fake_quant:
            return self.floating(x)
        scale = straight_through(self.free_scale() * self.gradient_scale(x), self.scale())
        inside = F.hardtanh(x * (1.0 / scale), *self.levels())
        return straight_through(inside, inside.detach().round()) * scale

    def qparams(self) -> QParams:
        p = self._initial
        return QParams(float(self.scale()), p.zero_point, p.qmin, p.qmax, p.dtype)


class EmaRange(ActivationQuantizer):
    """An exponential running mean of each training batch's extremes. Never under privacy: it looks at live data."""

    low: Tensor
    high: Tensor

    def __init__(self, lo: float, hi: float, grid: GridKind, clamp: Range = UNBOUNDED, decay: float = 0.95) -> None:
        super().__init__(clamp)
        self._grid = grid
        self._decay = decay
        self.register_buffer("low", torch.tensor(float(max(lo, clamp[0]))))
        self.register_buffer("high", torch.tensor(float(min(hi, clamp[1]))))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel():
            seen = self.clamped(x.detach())
            self.low.lerp_(seen.amin(), 1 - self._decay)
            self.high.lerp_(seen.amax(), 1 - self._decay)
        return _quantize(x, self.qparams()) if self.fake_quant else self.floating(x)

    def scale(self) -> Tensor:
        return torch.tensor(self.qparams().scale)

    def qparams(self) -> QParams:
        lo, hi = float(self.low), float(self.high)
        empty = max(hi, 0.0) - min(lo, 0.0) < SMALLEST_SCALE
        return make_qparams(lo, SMALLEST_SCALE if empty else hi, self._grid, self.clamp)
