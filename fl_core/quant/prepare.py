"""Turns a float model into a quantization-aware one whose every tensor has a grid before it sees any data.

Names of parameters stay those of the float model (a convolution that absorbs a BatchNorm gains a bias); learned
ranges add ``act_quant.*``. A range comes from, in this order: the ``ranges`` argument, an ``output_range`` attribute
that the model's author put on the module, the operations' own bounds, the constants below. All of them are public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fl_core.errors import ModelError
from fl_core.quant.fake_quant import (
    UNBOUNDED,
    ActivationQuantizer,
    EmaRange,
    FixedRange,
    LearnedRange,
    Range,
    set_fake_quant,
)
from fl_core.quant.float_ops import FloatGraph, FloatOp
from fl_core.quant.functions import FUNCTIONS
from fl_core.quant.fuse import fuse
from fl_core.quant.graph import QatModel, Step
from fl_core.quant.layers import QConv1d, QConv2d, QLayer, QLinear
from fl_core.quant.spec import QuantSpec
from fl_core.quant.trace import trace_float

DEFAULT_RANGE: Range = (-8.0, 8.0)
"""Range of an activation of which nothing is known; a ReLU's is its upper half."""
OUTPUT_RANGE: Range = (-16.0, 16.0)
"""Range of the model's output, where saturation would cost the order of the classes."""
KEEPS_GRID = frozenset({"max_pool", "avg_pool", "flatten", "dropout"})
"""Operations whose result stays on their input's grid, as every runtime has it."""
QUANTIZERS = "act_quant"


@dataclass(frozen=True, eq=False)
class TracedModel:
    """A float model and what its forward computes: all that its quantized forms are made from."""

    module: nn.Module
    graph: FloatGraph
    input_shape: tuple[int, ...]
    """One example without the batch axis."""


def prepare_qat(
    model: nn.Module,
    spec: QuantSpec,
    input_shape: tuple[int, ...],
    input_range: Range,
    ranges: Mapping[str, Range] | None = None,
) -> QatModel:
    """The quantization-aware form of ``model``, which itself stays as it is.

    Parameters with ``requires_grad`` off stay frozen and are quantized like all others, and what two layers share they
    share here too. Fake quantization is on exactly if ``spec.enabled``.

    >>> from torch import Tensor, nn
    >>> from fl_core.quant.graph import activation_names
    >>> from fl_core.quant.prepare import prepare_qat
    >>> from fl_core.quant.spec import QuantSpec
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    >>> qat = prepare_qat(net, QuantSpec(ranges="learned"), (1, 8), (-1.0, 1.0), ranges={"2": (0.0, 6.0)})
    >>> qat(Tensor([[[0.5] * 8]])).shape
    torch.Size([1, 4])
    >>> activation_names(qat)  # the convolution absorbed its norm and the ReLU
    ['input', '2', '4']
    >>> [step.op for step in qat.steps], "act_quant.2.log_scale" in qat.state_dict()
    (['conv', 'flatten', 'linear'], True)

    Args:
        model: a traceable module of one input and one output tensor.
        spec: bits, grid and the kind of ranges.
        input_shape: one example without the batch axis.
        input_range: lowest and highest real value of the input; values outside saturate.
        ranges: range by activation name; the names are those of ``activation_names``, or of any layer whose output
            it is (for a convolution before a ReLU: either).

    Raises:
        UnsupportedLayerError: layers cannot become integer; says which, and what to use instead of each.
        ModelError: the model does not run on ``input_shape``, or ``ranges`` or ``spec.per_layer`` name what is not
            there, or a range is empty.
    """
    return quantize(trace_model(model, input_shape), spec, input_range, ranges)


def trace_model(model: nn.Module, input_shape: tuple[int, ...]) -> TracedModel:
    """The part of ``prepare_qat`` that depends on no bits and no ranges.

    Raises:
        UnsupportedLayerError: layers cannot become integer.
        ModelError: the weights are not plain float32 ones, or the model does not run on ``input_shape``.
    """
    return TracedModel(model, fuse(trace_float(model, tuple(input_shape))), tuple(input_shape))


def quantize(
    traced: TracedModel, spec: QuantSpec, input_range: Range, ranges: Mapping[str, Range] | None = None
) -> QatModel:
    """The rest of ``prepare_qat``; other bits or ranges for a traced model cost no further trace.

    Raises:
        ModelError: ``ranges`` or ``spec.per_layer`` name what is not there, or a range is empty.
    """
    graph, model = traced.graph, traced.module
    _check_names(graph, model, spec, ranges or {})
    grids = _Grids(graph, spec, ranges or {}, input_range).grids
    copies = _Copies()
    steps = tuple(_step(op, spec, grids, copies) for op in graph.ops)
    qat = QatModel(steps, grids, graph.input, graph.output, traced.input_shape)
    attach_layers(qat, model)
    attach_quantizers(qat)
    set_fake_quant(qat, spec.enabled)
    qat.train(model.training)
    return qat


class _Grids:
    """Gives every tensor of a float graph its quantizer, in execution order."""

    def __init__(self, graph: FloatGraph, spec: QuantSpec, ranges: Mapping[str, Range], input_range: Range) -> None:
        self._spec, self._ranges = spec, ranges
        self._bounds: dict[str, Range] = {graph.input: ranges.get(graph.input, input_range)}
        self.grids = {graph.input: self._make(graph.input, self._bounds[graph.input], UNBOUNDED, fixed=True)}
        self._owner = graph.output
        for op in reversed(graph.ops):
            if op.output == self._owner and op.kind in KEEPS_GRID:
                self._owner = op.inputs[0]
        for op in graph.ops:
            self._bounds[op.output] = bounds = self._range(op)
            shared = self._shared(op)
            fixed = op.kind == "lut" and FUNCTIONS[op.attrs["function"]].bounded
            self.grids[op.output] = shared or self._make(op.output, bounds, op.clamp, fixed)

    def _range(self, op: FloatOp) -> Range:
        if op.kind in KEEPS_GRID:
            return self._bounds[op.inputs[0]]
        natural, low = DEFAULT_RANGE, op.clamp[0]
        if op.kind == "lut":
            natural = FUNCTIONS[op.attrs["function"]].range
            low = natural[0]
        elif op.kind == "concat":
            natural = _hull([self._bounds[name] for name in op.inputs])
        elif op.output == self._owner:
            natural = OUTPUT_RANGE
        wanted = self._asked(op) or natural
        return max(wanted[0], low), min(wanted[1], op.clamp[1])

    def _asked(self, op: FloatOp) -> Range | None:
        return next((self._ranges[name] for name in op.called if name in self._ranges), op.hint)

    def _shared(self, op: FloatOp) -> ActivationQuantizer | None:
        """The input's quantizer, where the output is on its grid at no cost."""
        sources = [self.grids[name] for name in op.inputs]
        if op.kind in KEEPS_GRID:
            return sources[0]
        same = all(isinstance(s, FixedRange) and s.qparams() == sources[0].qparams() for s in sources)
        return sources[0] if op.kind == "concat" and same and self._asked(op) is None else None

    def _make(self, name: str, bounds: Range, clamp: Range, fixed: bool) -> ActivationQuantizer:
        kind = FixedRange if fixed else RANGE_KINDS[self._spec.ranges]
        try:
            return kind(*bounds, self._spec.grid, clamp)
        except ValueError as error:
            raise ModelError(f"activation {name}: {error}") from error


RANGE_KINDS: Mapping[str, type[FixedRange] | type[LearnedRange] | type[EmaRange]] = {
    "fixed": FixedRange,
    "public": FixedRange,
    "dp_histogram": FixedRange,
    "learned": LearnedRange,
    "ema": EmaRange,
}


def _hull(bounds: list[Range]) -> Range:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


class _Copies:
    """Copies of parameters; what two layers share is copied once, so that they share the copy."""

    def __init__(self) -> None:
        self._made: dict[int, nn.Parameter] = {}

    def of(self, param: Tensor) -> nn.Parameter:
        if id(param) not in self._made:
            self._made[id(param)] = nn.Parameter(param.detach().clone(), requires_grad=param.requires_grad)
        return self._made[id(param)]


def _step(op: FloatOp, spec: QuantSpec, grids: Mapping[str, ActivationQuantizer], copies: _Copies) -> Step:
    layer: nn.Module | None = None
    if op.kind in ("conv", "linear"):
        layer = _q_layer(op, spec.bits_of(op.name), copies)
    elif op.kind == "dropout":
        layer = op.module or nn.Dropout(op.attrs["p"])
    on_grid = op.kind in KEEPS_GRID or (op.kind == "concat" and grids[op.output] is grids[op.inputs[0]])
    return Step(op.name, op.kind, tuple(op.inputs), op.output, op.attrs, layer, requantize=not on_grid)


def _q_layer(op: FloatOp, bits: int, copies: _Copies) -> QLayer:
    source = op.module
    assert isinstance(source, (nn.Conv1d, nn.Conv2d, nn.Linear))
    weight, bias = copies.of(source.weight), None if source.bias is None else copies.of(source.bias)
    if isinstance(source, nn.Linear):
        return QLinear(weight, bias, bits)
    kind = QConv1d if isinstance(source, nn.Conv1d) else QConv2d
    return kind(weight, bias, bits, **op.attrs)


def attach_layers(qat: QatModel, model: nn.Module) -> None:
    """Register the layers at their paths in the float model, in its order."""
    layers = {step.name: step.layer for step in qat.steps if step.layer is not None}
    paths = [path for path, _ in model.named_modules() if path in layers]
    for path in [*paths, *(name for name in layers if name not in paths)]:
        *parents, last = path.split(".")
        parent: nn.Module = qat
        for part in parents:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        if hasattr(parent, last) or path.startswith(f"{QUANTIZERS}."):
            raise ModelError(f"layer {path}: its name is taken in the quantized model; choose another")
        parent.add_module(last, layers[path])


def attach_quantizers(qat: QatModel) -> None:
    """Register the quantizers by the names of their tensors, a shared one once."""
    holder = nn.Module()
    attached: set[int] = set()
    for tensor, quantizer in qat.grids.items():
        if id(quantizer) not in attached:
            attached.add(id(quantizer))
            name = tensor.replace(".", "_")
            while hasattr(holder, name):
                name += "_"
            holder.add_module(name, quantizer)
    if hasattr(qat, QUANTIZERS):
        raise ModelError(f"layer {QUANTIZERS}: its name is taken in the quantized model; choose another")
    qat.add_module(QUANTIZERS, holder)


def _check_names(graph: FloatGraph, model: nn.Module, spec: QuantSpec, ranges: Mapping[str, Range]) -> None:
    layers = [op.name for op in graph.ops if op.kind in ("conv", "linear")]
    known = [graph.input, *(name for op in graph.ops if op.kind not in KEEPS_GRID for name in op.called)]
    for what, asked, names in (("quant.per_layer", spec.per_layer, layers), ("ranges", ranges, known)):
        unknown = sorted(set(asked) - set(names))
        if unknown:
            raise ModelError(f"{what}: expected names among {names}, got {unknown}")
    _check_shared_bits(graph, spec)
    called = {name for op in graph.ops for name in op.called}
    unused = [line for path, module in model.named_modules() if path not in called for line in _unused(path, module)]
    if unused:
        raise ModelError(unused)


def _unused(path: str, module: nn.Module) -> list[str]:
    """The parameters of a module that is no layer of the graph: a layer of torch in one line, others each by name."""
    own = [name for name, _ in module.named_parameters(path, recurse=False)]
    if own and type(module).__module__.startswith("torch."):
        return [f"layer {path}: has parameters, but the forward never calls it"]
    return [f"parameter {name}: is there, but the forward never uses it" for name in own]


def _check_shared_bits(graph: FloatGraph, spec: QuantSpec) -> None:
    owners: dict[int, str] = {}
    for op in graph.ops:
        weight = getattr(op.module, "weight", None) if op.kind in ("conv", "linear") else None
        first = owners.setdefault(id(weight), op.name)
        if weight is not None and spec.bits_of(first) != spec.bits_of(op.name):
            raise ModelError(
                f"quant.per_layer: layers {first} and {op.name} share one weight: expected equal bits, got "
                f"{spec.bits_of(first)} and {spec.bits_of(op.name)}"
            )
