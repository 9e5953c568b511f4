"""Reads a float model with torch.fx as a plain list of operations, and refuses what cannot become integer.

Modules, functions and tensor methods that mean the same become the same ``FloatOp``. The tables in ``readers`` say what
is understood; everything else is refused with its name and, where there is one, a layer to use instead.
"""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fl_core.errors import ModelError, UnsupportedLayerError
from fl_core.quant.fake_quant import Range
from fl_core.quant.float_ops import FloatOp, Reader, TracedCall, layer_name, shape_of
from fl_core.quant.readers import FUNCTION_READERS, METHODS, MODULES, SHAPE_QUERIES
from fl_core.quant.refusals import INSTEAD

TRACING = threading.RLock()
"""Held while a model is traced: torch.fx replaces the call of every module of the process meanwhile, so whoever runs a
net in a thread of its own holds this too."""


@dataclass(frozen=True)
class FloatGraph:
    """The operations in execution order; ``input`` and ``output`` are names of tensors."""

    ops: list[FloatOp]
    input: str
    output: str


def trace_float(model: nn.Module, input_shape: tuple[int, ...]) -> FloatGraph:
    """Trace ``model`` for one input [B, *input_shape].

    Raises:
        UnsupportedLayerError: the model branches on data or holds an operation that cannot become integer.
        ModelError: the model does not run on this shape.
    """
    model = copy.deepcopy(model).eval()
    try:
        with TRACING:
            traced = fx.symbolic_trace(model)
    except Exception as error:
        raise UnsupportedLayerError(
            f"model {type(model).__name__}: torch.fx cannot trace its forward ({error}); "
            "write it without branches on data, lengths or shapes"
        ) from error
    readers = {node: _reader(node, traced) for node in traced.graph.nodes}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trial run: what it warns of is either refused below or harmless
            _Shapes(traced).run(torch.zeros(2, *input_shape))
    except Exception as error:
        name = type(model).__name__
        raise ModelError(f"model {name}: does not run on inputs of shape {input_shape}: {error}") from error
    return _read_graph(traced, readers)


class _Shapes(fx.Interpreter):
    """Leaves shape and type of each result with its node, as torch's ShapeProp does, which loads 45 MB of sympy."""

    def run_node(self, n: fx.Node) -> Any:
        """The node's result, whose shape and type stay with the node."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["tensor_meta"] = result.to("meta")
        return result


def _reader(node: fx.Node, traced: fx.GraphModule) -> Reader | None:
    """How to read one node; None for what carries no tensor. Refuses before anything is run."""
    if node.op in ("placeholder", "output"):
        return None
    target: Any = node.target
    if node.op == "call_module":
        target = type(traced.get_submodule(str(node.target)))
        reader = MODULES.get(target)
    elif node.op == "call_function":
        reader = FUNCTION_READERS.get(target)
    elif node.op == "call_method":
        reader = METHODS.get(target)
    else:
        raise UnsupportedLayerError(
            f"layer {node.target}: a parameter or buffer used directly; put it into nn.Conv1d, nn.Conv2d or nn.Linear"
        )
    if reader is not None or target in SHAPE_QUERIES:
        return reader
    raise _refusal(node, target)


def _refusal(node: fx.Node, target: Any) -> UnsupportedLayerError:
    kind = getattr(target, "__name__", str(target))
    instead = INSTEAD.get(kind, "use Conv1d, Conv2d, Linear, ReLU, pooling, add or concat")
    return UnsupportedLayerError(f"layer {layer_name(node)}: {kind} cannot become integer; {instead}")


def _read_graph(traced: fx.GraphModule, readers: dict[fx.Node, Reader | None]) -> FloatGraph:
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != 1:
        raise UnsupportedLayerError(f"model: expected one input tensor, got {len(placeholders)}")
    names = {placeholders[0]: "input"}
    uses: dict[str, int] = {"input": 1}
    ops: list[FloatOp] = []
    output = ""
    for node in traced.graph.nodes:
        reader = readers[node]
        if reader is not None and _is_tensor(node):
            module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
            op = reader(TracedCall(node, module))
            op.inputs = [names[source] for source in _tensor_arguments(node)]
            if op.kind == "alias":
                names[node] = op.inputs[0]
                continue
            op.name = op.output = names[node] = _unique(layer_name(node), uses, module)
            op.shape, op.module, op.called = shape_of(node)[1:], module, [op.name]
            op.hint = _hint(op.name, module)
            ops.append(op)
            if op.attrs.pop("flatten", False):
                flat = names[node] = _unique(f"{op.name}_flatten", uses, None)
                op.shape = (*op.shape, *[1] * len(op.attrs["kernel"]))
                ops.append(FloatOp(flat, "flatten", [op.name], None, {"start_dim": 1}, output=flat, called=[flat]))
        elif reader is None and _is_tensor(node) and node.op not in ("placeholder", "output"):
            raise _refusal(node, node.target)
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0] not in names:
                raise UnsupportedLayerError("model: expected one output tensor, got several or none")
            output = names[node.args[0]]
    return FloatGraph(ops, "input", output)


def _tensor_arguments(node: fx.Node) -> list[fx.Node]:
    """Inputs in the order they are written, one for each time they are written: x + x has two."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return [source for source in found if _is_tensor(source)]


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("tensor_meta"), Tensor)


def _hint(name: str, module: nn.Module | None) -> Range | None:
    hint = getattr(module, "output_range", None)
    if hint is None:
        return None
    try:
        low, high = hint
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ModelError(f"layer {name}: output_range must be two numbers, got {hint!r}") from error


def _unique(name: str, uses: dict[str, int], module: nn.Module | None) -> str:
    count = uses.get(name, 0)
    uses[name] = count + 1
    if not count:
        return name
    if module is not None and next(module.parameters(recurse=False), None) is not None:
        raise UnsupportedLayerError(f"layer {name}: called twice, with two inputs of different scale; use two layers")
    return _unique(f"{name}_{count}", uses, module)
