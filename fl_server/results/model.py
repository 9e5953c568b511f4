"""The global model as a value, and the nets into which it is loaded to compute with it.

A ``Model`` is what a round ends with: nobody means "the weights that some module holds just now". ``Nets`` keeps one
quantization-aware net a width and its front end's outputs, and loads a ``Model`` where it holds another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from fl_core.models.weights import load_tensors
from fl_core.quant.forward import FrozenCache
from fl_core.quant.lower import lower
from fl_core.quant.lowered import Lowered
from fl_core.quant.ranges import calibrate, clipped_shares, measured_activations, running_activations
from fl_core.quant.trace import TRACING
from fl_core.spec import TrainingSpec
from fl_core.types import FloatArray, Tensors
from fl_server.plan.tasks import Ranges


@dataclass(frozen=True)
class Moving:
    """What of a model moves between rounds without being a weight."""

    ranges: Ranges = field(default_factory=dict)
    """Activation ranges as measured so far; empty for fixed and learned ones."""

    @classmethod
    def from_plain(cls, ranges: Mapping[str, tuple[float, float]]) -> Moving:
        """Ranges as a checkpoint or a client gave them: pairs of any kind."""
        return cls({name: (low, high) for name, (low, high) in ranges.items()})


@dataclass(frozen=True, eq=False)
class Model:
    """The global model of one moment: one set of weights, for all widths of a fleet.

    Widths differ in the grids of the weights alone. Weights travel in float and activations have 8 bits everywhere, so
    ranges and learned scales are those of every width.
    """

    spec: TrainingSpec
    """What was trained, without ``moving``."""
    tensors: Tensors
    """The trainable tensors by name; never written to."""
    moving: Moving = field(default_factory=Moving)
    outputs: dict[tuple[int, str, bool], FloatArray] = field(default_factory=dict, init=False, repr=False)
    """Outputs by weight bits, name of the examples and whether weights and activations were on their grids; what
    ``Nets.outputs`` has computed once."""

    @property
    def weight_bits(self) -> int:
        """The width of the config; clients of other widths have their own."""
        return self.spec.quant.weight_bits


@dataclass
class _Net:
    """A net of one width, and the model whose weights and ranges it holds."""

    cache: FrozenCache
    moving: Moving
    tensors: Tensors | None = None


class Nets:
    """One net a width, into which any ``Model`` of a run is loaded; for any thread.

    Where a model's ranges are others than those of the net, the net is made anew from the float model, which was
    built and traced once.
    """

    def __init__(self, spec: TrainingSpec, seed: int) -> None:
        """Build and trace the float model, here and now: that touches torch's one global generator."""
        self._spec = spec
        self._traced = spec.trace_model(seed)
        self._lock = TRACING  # elsewhere in the process a client's model may be traced at any time
        self._nets = {bits: self._build(bits, Moving()) for bits in spec.quant.widths}
        whole = self._nets[spec.quant.weight_bits].cache.whole
        trainable = [(name, param) for name, param in whole.named_parameters() if param.requires_grad]
        self.parameters: Tensors = {name: param.detach().numpy().copy() for name, param in trainable}
        """The trainable tensors with their initial values, in the order of the layers."""
        self.running = tuple(running_activations(whole))
        """Activations whose ranges clients measure as they train."""

    def outputs(
        self, model: Model, name: str, x: FloatArray, *, fake_quant: bool, bits: int | None = None
    ) -> FloatArray:
        """A model's outputs [N, ...] for the examples ``x`` [N, *input_shape], known as ``name``.

        With ``fake_quant`` off nothing is rounded; ``bits`` is the width, that of the config when None.
        """
        width = bits or model.weight_bits
        key = width, name, fake_quant
        with self._lock:
            if key not in model.outputs:
                with self._holding(model, width) as net:
                    model.outputs[key] = net.cache.outputs(name, x, fake_quant=fake_quant)
            return model.outputs[key]

    def lowered(self, model: Model, bits: int) -> Lowered:
        """A model as integers and scales at one width.

        Raises:
            ModelError: a weight or a range is not finite.
        """
        with self._holding(model, bits) as net:
            return lower(net.cache.whole)

    def calibrated(self, model: Model, x: FloatArray) -> Ranges:
        """Activation ranges of a model's float forward on public examples [N, *input_shape], where it measures any."""
        with self._holding(model, model.weight_bits) as net:
            found = calibrate(net.cache.whole, torch.from_numpy(x))
            return {name: found[name] for name in measured_activations(net.cache.whole) if name in found}

    def clipped(self, model: Model, x: FloatArray) -> dict[str, float]:
        """For each activation the share of its values on the examples [N, *input_shape] that its range cuts off."""
        with self._holding(model, model.weight_bits) as net:
            return clipped_shares(net.cache.whole, torch.from_numpy(x))

    def measured(self, model: Model) -> list[str]:
        """Activations whose range is measured: neither the input, whose range is public, nor the output."""
        with self._holding(model, model.weight_bits) as net:
            return measured_activations(net.cache.whole)

    @contextmanager
    def _holding(self, model: Model, bits: int) -> Iterator[_Net]:
        """The net of a width with this model in it, for one thread at a time."""
        with self._lock:
            net = self._nets[bits]
            if net.moving != model.moving:
                net = self._nets[bits] = self._build(bits, model.moving)
            if net.tensors is not model.tensors:
                net.tensors = None  # until all of them are in
                load_tensors(net.cache.whole, model.tensors)
                net.tensors = model.tensors
            yield net

    def _build(self, bits: int, moving: Moving) -> _Net:
        spec = replace(self._spec.at_width(bits), ranges=moving.ranges)
        return _Net(FrozenCache(spec.quantize(self._traced)), moving)
