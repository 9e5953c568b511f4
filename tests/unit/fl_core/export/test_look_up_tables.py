"""Look-up tables hold what the fake-quant forward computes, and the independent evaluator agrees."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fl_core.export import tables
from fl_core.export.onnx.forms import FLOAT_FUNCTIONS
from fl_core.export.tables import look_up_table
from fl_core.quant import functions, integer
from fl_core.quant.fake_quant import FixedRange
from fl_core.quant.integer import run_node
from fl_core.quant.lowered import Node, QParams
from fl_core.quant.spec import GridKind

RNG = np.random.default_rng(11)
RANGES = [(-float(low), float(high)) for low, high in RNG.uniform(0.05, 12.0, (12, 2))]


def forward(source: QParams, target: FixedRange, function: str | None) -> np.ndarray:
    """Integers of the fake-quant forward for everything that the source can hold."""
    steps = torch.arange(source.qmin, source.qmax + 1) - source.zero_point
    real = steps.float() * source.scale
    if function is not None:
        real = functions.FUNCTIONS[function].forward(real)
    grid = target.qparams()
    return np.rint(target(real).numpy() / np.float32(grid.scale)).astype(int) + grid.zero_point


@pytest.mark.parametrize("function", [None, *tables.TABLE_FUNCTIONS])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_a_table_is_the_forward_of_every_integer(grid: GridKind, function: str | None) -> None:
    for bounds, other in pairwise(RANGES):
        source, target = FixedRange(*bounds, grid).qparams(), FixedRange(*other, grid)
        table = look_up_table(source, target.qparams(), function)
        assert np.array_equal(table, forward(source, target, function))


@pytest.mark.parametrize("function", [None, *tables.TABLE_FUNCTIONS])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_the_independent_evaluator_gives_the_table(grid: GridKind, function: str | None) -> None:
    for bounds, other in pairwise(RANGES):
        source, target = FixedRange(*bounds, grid).qparams(), FixedRange(*other, grid).qparams()
        node = Node("n", "lut", ("a",), "b", {"function": function})
        if function is None:
            node = Node("n", "identity", ("a",), "b")
        every = np.arange(source.qmin, source.qmax + 1)
        assert np.array_equal(look_up_table(source, target, function), run_node(node, [every], [source], target))


def test_every_account_knows_the_same_functions() -> None:
    assert (
        set(tables.TABLE_FUNCTIONS)
        == set(functions.FUNCTIONS)
        == set(integer.INTEGER_FUNCTIONS)
        == set(FLOAT_FUNCTIONS)
    )
