"""What a traced float model is made of, before anything of it is quantized."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from fl_core.errors import UnsupportedLayerError
from fl_core.quant.fake_quant import UNBOUNDED, Range


@dataclass
class FloatOp:
    """One operation; ``kind`` is a lowered op or one of "clamp", "batch_norm", "dropout", "alias" and "refused".

    An alias, which changes nothing, is gone once the graph is read; "refused" stands for what is none.
    """

    name: str
    kind: str
    inputs: list[str]
    module: nn.Module | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    clamp: Range = UNBOUNDED
    shape: tuple[int, ...] = ()
    """Shape of the output without the batch axis."""
    output: str = ""
    """Name of the tensor it yields."""
    called: list[str] = field(default_factory=list)
    """Every name under which a user may speak of the output: this operation's and those fused into it."""
    hint: Range | None = None
    """``output_range`` of the module, if its author set one."""


@dataclass(frozen=True)
class FloatGraph:
    """The operations in execution order; ``input`` and ``output`` are names of tensors."""

    ops: list[FloatOp]
    input: str
    output: str
    problems: tuple[str, ...] = ()
    """What of the model cannot become integer, one line each; then some ``ops`` are "refused"."""


@dataclass(frozen=True)
class TracedCall:
    """One fx node with what the readers below need to know of it."""

    node: fx.Node
    module: nn.Module | None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of a function or method call, given by position or by name."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def shape_in(self) -> tuple[int, ...]:
        """Shape of the first input, batch axis included."""
        return shape_of(self.node.all_input_nodes[0])

    def refuse(self, why: str) -> UnsupportedLayerError:
        """The error that names this layer."""
        return UnsupportedLayerError(f"layer {layer_name(self.node)}: {why}")


def layer_name(node: fx.Node) -> str:
    """The name a user knows a node by: the path of its module, else what fx calls it."""
    return str(node.target) if node.op == "call_module" else node.name


def is_activation(node: fx.Node) -> bool:
    """Whether a node that was run gave a tensor that depends on the input; a parameter does not."""
    return node.op != "get_attr" and isinstance(node.meta.get("tensor_meta"), Tensor)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of a node's tensor, batch axis included; () for what is no tensor."""
    meta = node.meta.get("tensor_meta")
    return tuple(getattr(meta, "shape", ()))


def operation(kind: str, **attrs: Any) -> FloatOp:
    """An operation as a reader gives it: without a name and inputs."""
    return FloatOp("", kind, [], attrs=attrs)


def as_tuple(value: Any, rank: int) -> tuple[int, ...]:
    """One whole number for each of ``rank`` axes, as torch takes it: given for all of them at once or for each."""
    return tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * rank


Reader = Callable[[TracedCall], FloatOp]
"""Turns one node into an operation; the tracer fills in names, inputs and shape."""


def clamp_of(low: float | None, high: float | None, call: TracedCall) -> Range:
    """Bounds of a clamping activation function.

    Raises:
        UnsupportedLayerError: zero lies outside, where an integer grid always has a point.
    """
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    if not bounds[0] <= 0.0 <= bounds[1] or bounds[0] == bounds[1]:
        raise call.refuse(f"expected bounds with zero between them, got {list(bounds)}")
    return bounds
