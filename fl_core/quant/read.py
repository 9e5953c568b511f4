"""From the nodes of a traced net to its operations: every node is read, and every one that cannot be is named.

An operation in place gives a new tensor like any other; whoever reads its input, or a view of it, later reads that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from fl_core.errors import ModelError, UnsupportedLayerError
from fl_core.quant.fake_quant import Range
from fl_core.quant.float_ops import FloatGraph, FloatOp, Reader, TracedCall, is_activation, layer_name, shape_of
from fl_core.quant.readers import FUNCTION_READERS, METHODS, MODULES, SHAPE_QUERIES
from fl_core.quant.refusals import refusal

INPUT_TENSOR = "input"
"""Name of the model's input."""


def read_graph(traced: fx.GraphModule, model: nn.Module, problems: Sequence[str] = ()) -> FloatGraph:
    """The operations of ``model``, traced and run by ``run_on_zeros``; ``problems`` of it come before its layers'.

    Raises:
        UnsupportedLayerError: the model gives several tensors or none.
        ModelError: an ``output_range`` is not two numbers.
    """
    reading = _Reading(traced, model)
    for node in traced.graph.nodes:
        try:
            reading.read(node)
        except UnsupportedLayerError as error:
            reading.refuse(node, error)
    found = dict.fromkeys([*problems, *reading.problems])
    return FloatGraph(reading.ops, INPUT_TENSOR, reading.output, tuple(found))


def unknown_layers(traced: fx.GraphModule) -> list[str]:
    """What of a net that does not run would be refused if it did, as far as that can be told without running it."""
    operations = [node for node in traced.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    targets = {node: _target(node, traced) for node in operations}
    unknown = [
        node for node, target in targets.items() if _reader(node, target) is None and target not in SHAPE_QUERIES
    ]
    return list(dict.fromkeys(str(refusal(node, targets[node])) for node in unknown))


class _Reading:
    """The operations read so far, and which tensor each node stands for by now."""

    def __init__(self, traced: fx.GraphModule, model: nn.Module) -> None:
        self.ops: list[FloatOp] = []
        self.problems: list[str] = []
        self.output = ""
        self._traced, self._model = traced, model
        self._order = {node: at for at, node in enumerate(traced.graph.nodes)}
        self._names: dict[fx.Node, str] = {}
        self._uses = {INPUT_TENSOR: 1}
        self._refused: set[fx.Node] = set()
        self._trained = self._without_gradient = False

    def refuse(self, node: fx.Node, error: UnsupportedLayerError) -> None:
        """Note what is wrong with a node, and go on as if it had been read."""
        self.problems += error.problems
        self._stand_in(node)

    def read(self, node: fx.Node) -> None:
        """Take one node in.

        Raises:
            UnsupportedLayerError: it cannot become integer.
        """
        if node.op == "placeholder":
            self._names[node] = INPUT_TENSOR
        elif node.op == "output":
            self._finish(node)
        elif node.op == "get_attr":
            raise self._direct_use(str(node.target))
        elif any(source in self._refused and not is_activation(source) for source in node.all_input_nodes):
            self._stand_in(node)  # what it reads is named already
        elif is_activation(node) or any(is_activation(source) for source in node.all_input_nodes):
            self._read_operation(node)

    def _direct_use(self, path: str) -> UnsupportedLayerError:
        """The error for a parameter that a forward computes with itself."""
        layer, _, _ = path.rpartition(".")
        owner = self._model.get_submodule(layer)
        kind = next((kind for kind in (nn.Conv1d, nn.Conv2d, nn.Linear) if isinstance(owner, kind)), None)
        if kind is not None:
            own = type(owner).__name__
            return UnsupportedLayerError(
                f"layer {layer}: {own} is a {kind.__name__} with a forward of its own; use nn.{kind.__name__} itself"
            )
        return UnsupportedLayerError(
            f"layer {path}: a parameter or buffer used directly; put it into nn.Conv1d, nn.Conv2d or nn.Linear"
        )

    def _read_operation(self, node: fx.Node) -> None:
        target = _target(node, self._traced)
        reader = _reader(node, target)
        if reader is None:
            if target in SHAPE_QUERIES and not is_activation(node):
                return
            raise refusal(node, target)
        module = self._traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        call = TracedCall(node, module)
        self._check_gradient(call, module)
        op = reader(call)
        op.inputs = [self._names[source] for source in _tensor_arguments(node)]
        if op.kind == "alias":
            self._names[node] = op.inputs[0]
            return
        op.name = op.output = self._names[node] = self._unique(call, layer_name(node))
        op.shape, op.module, op.called = shape_of(node)[1:], module, [op.name]
        op.hint = _hint(op.name, module)
        self.ops.append(op)
        if op.attrs.pop("flatten", False):
            op.shape = (*op.shape, *[1] * len(op.attrs["kernel"]))
            self._names[node] = self._flatten(op.name, start_dim=1)
        if node.meta["writes"] is not None:
            self._write_over(call)

    def _write_over(self, call: TracedCall) -> None:
        """Let every view of what ``call`` wrote over stand for what it wrote."""
        node = call.node
        for view in list(self._names):
            if view is node or view.meta.get("memory") != node.meta["writes"]:
                continue
            if view.meta["layout"] == node.meta["layout"]:
                self._names[view] = self._names[node]
            elif any(self._order[user] > self._order[node] for user in view.users):
                start = len(shape_of(view)) - 1
                before = shape_of(node)
                whole = start and shape_of(view) == (*before[:start], math.prod(before[start:]))
                if not whole or not view.meta["tensor_meta"].is_contiguous():
                    raise call.refuse(
                        f"works in place on another view of {layer_name(view)}, which is read again; write it without "
                        "in place"
                    )
                self._names[view] = self._flatten(self._names[node], start)

    def _flatten(self, source: str, start_dim: int) -> str:
        """Name of ``source`` with its axes from ``start_dim`` on joined."""
        name = self._free(f"{source}_flatten")
        self.ops.append(FloatOp(name, "flatten", [source], None, {"start_dim": start_dim}, output=name, called=[name]))
        return name

    def _finish(self, node: fx.Node) -> None:
        given = node.args[0]
        if not isinstance(given, fx.Node) or given not in self._names:
            raise UnsupportedLayerError("model: expected one output tensor, got several or none")
        self.output = self._names[given]

    def _stand_in(self, node: fx.Node) -> None:
        name = self._names[node] = f"refused {node.name}"
        self._refused.add(node)
        inputs = [self._names[source] for source in node.all_input_nodes if source in self._names]
        self.ops.append(FloatOp(name, "refused", inputs, output=name, called=[name]))

    def _check_gradient(self, call: TracedCall, module: nn.Module | None) -> None:
        """Refuse a layer whose gradient the forward switches off: here it would be trained."""
        self._trained |= module is not None and any(p.requires_grad for p in module.parameters(recurse=False))
        if self._trained and call.node.meta["no_grad"] and not self._without_gradient:
            self._without_gradient = True
            raise call.refuse(
                "under torch.no_grad(), and it or a layer before it would be trained all the same; freeze their "
                "parameters with requires_grad_(False) instead"
            )

    def _unique(self, call: TracedCall, name: str) -> str:
        module = call.module
        if name in self._uses and module is not None and next(module.parameters(recurse=False), None) is not None:
            raise call.refuse(
                "called twice, with two inputs of different scale; use two layers, which may share their weight"
            )
        return self._free(name)

    def _free(self, name: str) -> str:
        """``name``, with a number behind it where it is taken."""
        count = self._uses.get(name, 0)
        self._uses[name] = count + 1
        return name if not count else self._free(f"{name}_{count}")


def _target(node: fx.Node, traced: fx.GraphModule) -> Any:
    """The class, function or method that a node calls."""
    return type(traced.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def _reader(node: fx.Node, target: Any) -> Reader | None:
    tables: dict[str, Any] = {"call_module": MODULES, "call_function": FUNCTION_READERS, "call_method": METHODS}
    reader: Reader | None = tables[node.op].get(target)
    return reader


def _tensor_arguments(node: fx.Node) -> list[fx.Node]:
    """Inputs in the order they are written, one for each time they are written: x + x has two; ``out`` is none."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, {name: value for name, value in node.kwargs.items() if name != "out"}), found.append)
    return [source for source in found if is_activation(source)]


def _hint(name: str, module: nn.Module | None) -> Range | None:
    hint = getattr(module, "output_range", None)
    if hint is None:
        return None
    try:
        low, high = hint
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ModelError(f"layer {name}: output_range must be two numbers, got {hint!r}") from error
