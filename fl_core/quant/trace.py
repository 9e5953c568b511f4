"""Reads a float model with torch.fx as a plain list of operations, and says all in it that cannot become integer.

Modules, functions and tensor methods that mean the same become the same ``FloatOp``. The tables in ``readers`` say what
is understood; everything else is refused with its name and, where there is one, a layer to use instead. The forward is
read as it is in training, and must be the same in evaluation but for dropout.
"""

from __future__ import annotations

import copy
import itertools
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.graph import inplace_methods

from fl_core.errors import ModelError, UnsupportedLayerError, one_line
from fl_core.own_code import own_place
from fl_core.quant.float_ops import FloatGraph, TracedCall, layer_name
from fl_core.quant.plain_weights import check_weights
from fl_core.quant.read import read_graph, unknown_layers
from fl_core.quant.readers import MODULES
from fl_core.quant.trial_run import run_on_zeros

TRACING = threading.RLock()
"""Held while a model is traced: torch.fx replaces the call of every module of the process meanwhile, so whoever runs a
net in a thread of its own holds this too."""

_KEPT = "expected a forward that depends on its input alone, got one that keeps a tensor between calls"


def trace_float(model: nn.Module, input_shape: tuple[int, ...]) -> FloatGraph:
    """Trace ``model`` for one input [B, *input_shape]; ``problems`` of the result has what cannot become integer.

    Raises:
        UnsupportedLayerError: the forward branches on data, or takes or gives several tensors.
        ModelError: the weights are not float32, or the model does not run on this shape.
    """
    check_weights(model)
    name = type(model).__name__
    if type(model) in MODULES:
        raise UnsupportedLayerError(
            f"model {name}: expected a module that holds layers, got one layer; put it into nn.Sequential"
        )
    try:
        model = copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"model {name}: cannot be copied ({type(error).__name__}); it may hold no tensor that was computed with a "
            "gradient, no lock and no open file"
        ) from error
    traced = _traced(model.train(), name)
    evaluated = _traced(model.eval(), name)
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise UnsupportedLayerError(f"model {name}: expected one input tensor, got {len(inputs)}")
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.train()  # what a dropout in place writes over is seen in training alone
    try:
        run_on_zeros(traced, name, input_shape)
    except ModelError as error:
        unknown = unknown_layers(traced)
        raise UnsupportedLayerError(unknown) if unknown else error from error.__cause__
    return read_graph(traced, model, _differences(traced, evaluated, name))


class _Value(fx.Proxy):
    """A tensor in a trace that knows ``x += y`` and its like, which torch.fx would take for ``x = x + y``."""


def _in_place(operation: Any) -> Any:
    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return method


for _name in inplace_methods.keys() - {"setitem"}:
    setattr(_Value, f"__{_name}__", _in_place(getattr(operator, _name)))


class _Tracer(fx.Tracer):
    """Leaves with each node whether the forward had switched gradients off there, which the graph itself forgets.

    It refuses a tensor of another call of the forward, which the net has kept.
    """

    _has_ended = False

    def trace(self, *args: Any, **kwargs: Any) -> fx.Graph:
        """The operations of one call."""
        graph = super().trace(*args, **kwargs)
        self._has_ended = True
        return graph

    def create_arg(self, a: Any) -> Any:
        """What a node takes.

        Raises:
            UnsupportedLayerError: it is of another call.
        """
        if isinstance(a, fx.Proxy) and a.tracer is not self:
            raise UnsupportedLayerError(_KEPT)
        return super().create_arg(a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A node that knows it.

        Raises:
            UnsupportedLayerError: it is asked for by another call.
        """
        if self._has_ended:
            raise UnsupportedLayerError(_KEPT)
        node = super().create_node(*args, **kwargs)
        node.meta["no_grad"] = not torch.is_grad_enabled()
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for the node's tensor while the forward runs."""
        return _Value(node, self)


def _traced(model: nn.Module, name: str) -> fx.GraphModule:
    try:
        with TRACING, torch.inference_mode(mode=False), torch.enable_grad(), _gradients_of_torch():
            return fx.GraphModule(model, _Tracer().trace(model), name)
    except Exception as error:
        raise UnsupportedLayerError(f"model {name}: {_why_not(error)}") from error


@contextmanager
def _gradients_of_torch() -> Iterator[None]:
    """Inside, a function with a gradient of its own is refused: a trace would keep only its forward."""
    apply = torch.autograd.Function.__dict__["apply"]

    def checked(cls: type, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, fx.Proxy) for each in args):
            raise UnsupportedLayerError(f"function {cls.__name__} has a gradient of its own, which would be lost")
        return apply.__get__(None, cls)(*args, **kwargs)

    torch.autograd.Function.apply = classmethod(checked)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]


def _why_not(error: Exception) -> str:
    """Why a forward cannot be read, in words that do not need torch.fx to be known."""
    place = own_place(error)
    at = f" at {place}" if place else ""
    if isinstance(error, UnsupportedLayerError):
        return f"{error}{at}"
    if "different tracers" in str(error):
        return f"{_KEPT}{at}"
    if isinstance(error, NameError) and ("not installed" in str(error) or "not a member" in str(error)):
        return f"its forward makes a layer or a parameter{at}; make it in __init__"
    if place and not isinstance(error, fx.proxy.TraceError) and "Proxy" not in str(error):
        return f"its forward fails{at}: {type(error).__name__}: {one_line(str(error))}"
    return (
        f"its forward cannot be read as a fixed list of operations{at}; write it without branches on data, lengths or "
        "shapes, and without taking a tensor apart"
    )


def _differences(traced: fx.GraphModule, evaluated: fx.GraphModule, name: str) -> list[str]:
    """What the forward does in training alone or in evaluation alone, dropout apart."""
    problems: list[str] = []
    for node, other in itertools.zip_longest(traced.graph.nodes, evaluated.graph.nodes):
        if node is None or other is None or _meaning(node) != _meaning(other):
            return [
                f"model {name}: its forward does not do the same in training as in evaluation, first at layer "
                f"{layer_name(node or other)}; write it without self.training, and use nn.Dropout for what drops"
            ]
        if other.target is F.dropout and TracedCall(other, None).argument(2, "training", True):
            problems.append(f"layer {layer_name(other)}: drops in evaluation as well; pass training=self.training")
    return problems


def _meaning(node: fx.Node) -> tuple[Any, ...]:
    """What a node computes and of what, but for whether a dropout drops."""
    args, kwargs = node.args, dict(node.kwargs)
    if node.target is F.dropout:
        args = (*args[:2], *args[3:])
        kwargs.pop("training", None)
    return node.op, node.target, repr(args), repr(kwargs)
