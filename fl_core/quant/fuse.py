"""Joins the operations of a float model that are one operation on integers.

BatchNorm after a convolution or linear layer becomes part of its weight and bias, from its running statistics, once
and for good (arXiv 1712.05877, frozen). A ReLU or another clamp after an operation becomes the bounds of that
operation's quantizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fl_core.errors import UnsupportedLayerError
from fl_core.quant.fake_quant import UNBOUNDED
from fl_core.quant.float_ops import FloatGraph, FloatOp

TAKES_CLAMP = frozenset({"conv", "linear", "add"})
"""Operations whose result is quantized only after the activation function that follows."""


def fuse(graph: FloatGraph) -> FloatGraph:
    """A graph that computes what ``graph`` does in fewer operations: no "batch_norm", no "clamp", new "identity".

    Raises:
        UnsupportedLayerError: with all problems of ``graph``, and with every BatchNorm that does not directly follow a
            convolution or linear layer of its own.
    """
    uses = Counter(name for op in graph.ops for name in op.inputs)
    uses[graph.output] += 1
    producer: dict[str, FloatOp] = {}
    owners = Counter(id(param) for op in graph.ops if op.module for param in op.module.parameters(recurse=False))
    ops: list[FloatOp] = []
    problems = list(graph.problems)
    for op in graph.ops:
        before = producer.get(op.inputs[0]) if op.inputs and uses[op.inputs[0]] == 1 else None
        if op.kind == "batch_norm":
            problems += _fold_problems(op, before, owners)
            if not problems:
                _fold(op, before)
        elif op.kind == "clamp" and (before is None or before.kind not in TAKES_CLAMP):
            op.kind, before = "identity", None
        if op.kind in ("batch_norm", "clamp") and before is not None:
            _absorb(op, before)
            producer[op.name] = before
        else:
            producer[op.name] = op
            ops.append(op)
    if problems:
        raise UnsupportedLayerError(problems)
    return FloatGraph(ops, graph.input, graph.output)


def _absorb(op: FloatOp, before: FloatOp) -> None:
    """``before`` yields what ``op`` yielded: it keeps its name as a layer and takes the other's as a tensor."""
    before.clamp = (max(before.clamp[0], op.clamp[0]), min(before.clamp[1], op.clamp[1]))
    before.called = [op.name, *before.called]
    before.hint = op.hint or before.hint
    before.output = op.output


def _fold_problems(op: FloatOp, before: FloatOp | None, owners: Mapping[int, int]) -> list[str]:
    """Why a BatchNorm cannot be folded into the operation before it; empty where it can, or where that is refused."""
    norm = op.module
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    if before is not None and before.kind == "refused":
        return []
    if before is None or before.kind not in ("conv", "linear") or before.clamp != UNBOUNDED:
        return [
            f"layer {op.name}: BatchNorm must directly follow a convolution or linear layer that nothing else reads"
        ]
    assert before.module is not None
    if any(owners[id(param)] > 1 for param in before.module.parameters(recurse=False)):
        return [
            f"layer {op.name}: BatchNorm would be folded into layer {before.name}, whose weights another layer shares; "
            "give it weights of its own, or leave the BatchNorm out"
        ]
    if norm.running_mean is None or norm.running_var is None:
        return [f"layer {op.name}: BatchNorm without running statistics cannot be folded"]
    return []


def _fold(op: FloatOp, before: FloatOp | None) -> None:
    norm, layer = op.module, before.module if before else None
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain_O = _double(norm.weight, 1.0, norm) / torch.sqrt(norm.running_var.double() + norm.eps)
    shift_O = _double(layer.bias, 0.0, norm) - norm.running_mean.double()
    bias_O = shift_O * gain_O + _double(norm.bias, 0.0, norm)
    trained = layer.weight.requires_grad
    with torch.no_grad():
        folded = layer.weight.double() * gain_O.reshape(-1, *[1] * (layer.weight.dim() - 1))
        layer.weight = nn.Parameter(folded.float(), requires_grad=trained)
        layer.bias = nn.Parameter(bias_O.detach().float(), requires_grad=trained)


def _double(value: Tensor | None, default: float, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    return torch.full((norm.num_features,), default).double() if value is None else value.detach().double()
