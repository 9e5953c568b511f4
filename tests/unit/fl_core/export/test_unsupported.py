"""What is refused before anything is written, each reason naming its node or tensor; and the shapes behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lowered_zoo import ZOO, examples, image_net, imu_net, reference

from fl_core.errors import ExportError
from fl_core.export.shapes import infer_shapes
from fl_core.export.unsupported import reasons_against
from fl_core.quant.integer import integer_forward
from fl_core.quant.lowered import Lowered, Node

OPS = frozenset({"conv", "linear", "add", "concat", "avg_pool", "max_pool", "flatten", "identity", "lut"})


def reasons(lowered: Lowered, ranks: tuple[int, ...] = (1, 2)) -> list[str]:
    return reasons_against(lowered, OPS, frozenset({"hard_swish", "sigmoid"}), ranks)


def with_node(lowered: Lowered, index: int, **changes: Any) -> Lowered:
    nodes = list(lowered.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(lowered, nodes=tuple(nodes))


def with_tensor(lowered: Lowered, name: str, **changes: Any) -> Lowered:
    return replace(lowered, tensors={**lowered.tensors, name: replace(lowered.tensors[name], **changes)})


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_accepted(name: str, grid: str) -> None:
    assert reasons(ZOO[name](grid)) == []


@pytest.mark.parametrize("name", ZOO)
def test_shapes_are_those_of_the_evaluator(name: str) -> None:
    lowered = ZOO[name]("asymmetric")
    values = integer_forward(lowered, examples(lowered, 2))
    assert infer_shapes(lowered) == {tensor: value.shape[1:] for tensor, value in values.items()}
    assert reference(lowered, examples(lowered, 2)).shape[1:] == infer_shapes(lowered)[lowered.output]


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 2), (3, 2, 1)])
def test_shapes_of_convolutions_are_those_of_torch(stride: int, padding: int, dilation: int) -> None:
    weight = np.ones((5, 2, 3, 4), np.int8)
    attrs = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2, "groups": 2}
    lowered = Lowered((Node("n", "conv", ("x",), "y", attrs, weight),), {}, "x", "y", (4, 17, 19))
    out = F.conv2d(torch.zeros(1, 4, 17, 19), torch.zeros(6, 2, 3, 4), None, stride, padding, dilation, 2)
    assert infer_shapes(lowered)["y"][1:] == tuple(out.shape[2:])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (with_node(imu_net("asymmetric"), 1, op="gelu"), "node n1: expected one of add,"),
        (with_node(imu_net("asymmetric"), 1, inputs=("nowhere",)), "node n1: expected a grid for every tensor"),
        (with_node(imu_net("asymmetric"), 0, weight=None), "node n0: expected a weight"),
        (with_node(imu_net("asymmetric"), 0, weight_scale=np.zeros(8, np.float32)), "node n0: expected positive"),
        (with_node(imu_net("asymmetric"), 0, bias=np.full(8, 2**31 - 1, np.int32)), "node n0: expected sums that fit"),
        (with_tensor(imu_net("asymmetric"), "t1", scale=1.0), "node n1: expected an output on the grid of its input"),
        (with_tensor(imu_net("asymmetric"), "t0", scale=float("nan")), "tensor t0: expected a positive scale"),
        (with_tensor(imu_net("asymmetric"), "t6", zero_point=256), "tensor t6: expected a zero point"),
        (with_tensor(imu_net("symmetric"), "t6", qmin=-129), "tensor t6: expected integers within"),
        (replace(imu_net("asymmetric"), input_shape=(5, 32)), "node n0: expected an input for a weight of shape"),
        (replace(imu_net("asymmetric"), input_shape=(6, 2)), "expected an input that its kernel"),
        (replace(imu_net("asymmetric"), output="t9"), "expected a node that makes its output t9"),
    ],
)
def test_each_fault_is_named(broken: Lowered, reason: str) -> None:
    found = reasons(broken)
    assert any(reason in text for text in found), found


def test_formats_without_an_axis_are_refused() -> None:
    assert reasons(image_net("asymmetric"), ranks=(1,))[0] == "node n0: expected 1 spatial axes, got 2"


def test_a_node_cannot_read_what_a_later_one_makes() -> None:
    lowered = imu_net("asymmetric")
    with pytest.raises(ExportError, match="node n1: expected inputs made by earlier nodes"):
        infer_shapes(replace(lowered, nodes=lowered.nodes[1:]))
