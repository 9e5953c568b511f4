"""Weights that are no plain float32 parameters are refused by name, before anything else looks at them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from fl_core.errors import ModelError
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

SHAPE = (2, 8)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))


def changed(change: Callable[[nn.Sequential], object]) -> nn.Sequential:
    made = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against the older forms
        change(made)
    return made


def masked(made: nn.Sequential) -> None:
    made[3].weight.register_hook(lambda gradient: gradient * 0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (net().half(), r"expected float32 weights, got float16 in 0.weight, 0.bias, .*model.float\(\)"),
        (net().double(), r"expected float32 weights, got float64 in 0.weight"),
        (net().bfloat16(), r"expected float32 weights, got bfloat16"),
        (changed(lambda made: made[3].double()), r"got float64 in 3.weight, 3.bias;"),
        (net().to("meta"), r"expected weights on the CPU, got others in 0.weight"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), r"lazy ones with 1.weight, 1.bias"),
        (changed(lambda made: weight_norm(made[0])), r"layer 0: its weight is computed from weight_g, weight_v"),
        (changed(lambda made: spectral_norm(made[3])), r"layer 3: its weight is computed from weight_orig"),
        (changed(lambda made: prune.l1_unstructured(made[3], "weight", 0.5)), r"layer 3: .*weight_orig.*prune.remove"),
        (changed(lambda made: parametrizations.weight_norm(made[0])), r"layer 0: .*remove_parametrizations"),
        (changed(lambda made: made[0].register_forward_hook(lambda *_: None)), "layer 0: has a hook"),
        (changed(lambda made: made[1].register_forward_pre_hook(lambda *_: None)), "layer 1: has a hook"),
        (changed(masked), "parameter 3.weight: has a hook on its gradient"),
    ],
)
def test_weights_that_would_be_lost_or_changed_are_refused(made: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        prepare_qat(made, QuantSpec(), SHAPE, (-1.0, 1.0))
    assert len(caught.value.problems) == 1


def test_the_way_on_from_a_reparametrised_weight_is_accepted() -> None:
    made = net()
    parametrizations.weight_norm(made[0])
    nn.utils.parametrize.remove_parametrizations(made[0], "weight")
    prune.l1_unstructured(made[3], "weight", 0.5)
    prune.remove(made[3], "weight")
    prepare_qat(made, QuantSpec(), SHAPE, (-1.0, 1.0))


def test_a_module_that_cannot_be_copied_is_refused_in_words() -> None:
    made = net()
    made.kept = made[0].weight * 2
    with pytest.raises(ModelError, match=r"cannot be copied .*no tensor that was computed with a gradient"):
        prepare_qat(made, QuantSpec(), SHAPE, (-1.0, 1.0))


def test_a_shape_that_does_not_fit_names_the_layer() -> None:
    with pytest.raises(ModelError) as caught:
        prepare_qat(net(), QuantSpec(), (2, 9), (-1.0, 1.0))
    assert caught.value.problems == (
        "model Sequential: does not run on inputs of shape (2, 9): layer 3: Linear cannot take [B, 28]; its weight has "
        "shape [3, 24]",
    )
    assert torch.is_grad_enabled()
