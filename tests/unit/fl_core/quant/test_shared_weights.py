"""What two layers share is one parameter in training, under privacy and in the artefact, or it is refused."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fl_core.errors import ModelError, UnsupportedLayerError
from fl_core.models.weights import load_tensors, trainable_tensors
from fl_core.privacy.grad_samplers import register_grad_samplers
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec
from support.odd import Tied

SHAPE = (2, 4)
RANGE = (-1.0, 1.0)


class TiedConvolutions(nn.Module):
    """Two convolutions with one weight and one bias."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, padding=1)
        self.b.weight, self.b.bias = self.a.weight, self.a.bias
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.b(torch.relu(self.a(x)))).flatten(1))


NETS = {"linear": lambda: Tied(8, 3), "convolution": TiedConvolutions}


@pytest.mark.parametrize("kind", NETS)
def test_a_shared_weight_is_one_tensor_with_one_gradient(kind: str) -> None:
    torch.manual_seed(1)
    net = NETS[kind]()
    prepared = prepare_qat(net, QuantSpec(enabled=False), SHAPE, RANGE)
    assert [name for name, _ in prepared.named_parameters()] == [name for name, _ in net.named_parameters()]
    x = torch.rand(5, *SHAPE) * 2 - 1
    for model in (net, prepared):
        model(x).square().sum().backward()
    wanted = dict(net.named_parameters())
    for name, param in prepared.named_parameters():
        torch.testing.assert_close(param.grad, wanted[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", NETS)
def test_gradients_of_examples_count_every_use(kind: str) -> None:
    prepared = prepare_qat(NETS[kind](), QuantSpec(), SHAPE, RANGE).double()
    x = torch.rand(4, *SHAPE, dtype=torch.float64) * 2 - 1
    alone: list[dict[str, Tensor]] = []
    for i in range(len(x)):
        prepared.zero_grad()
        prepared(x[i : i + 1]).square().sum().backward()
        alone.append({name: param.grad.clone() for name, param in prepared.named_parameters()})
    prepared.zero_grad()
    register_grad_samplers()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        wrapped = GradSampleModule(prepared, loss_reduction="sum")
        wrapped(x).square().sum().backward()
    for name, param in prepared.named_parameters():
        torch.testing.assert_close(param.grad_sample, torch.stack([each[name] for each in alone]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", NETS)
def test_loading_moves_every_layer_that_shares(kind: str) -> None:
    prepared = prepare_qat(NETS[kind](), QuantSpec(), SHAPE, RANGE)
    load_tensors(prepared, {name: tensor + 1.0 for name, tensor in trainable_tensors(prepared).items()})
    shared = [layer.weight for name, layer in prepared.named_modules() if name in ("first", "second", "a", "b")]
    assert len(shared) == 2
    assert shared[0] is shared[1]


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("bits", [8, 3])
def test_the_artefact_holds_a_shared_weight_once_and_computes_the_same(kind: str, bits: int) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from fl_core.export.onnx.graph import build_model

    torch.manual_seed(2)
    prepared = prepare_qat(NETS[kind](), QuantSpec(weight_bits=bits), SHAPE, RANGE).eval()
    x = torch.rand(40, *SHAPE) * 2 - 1
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    for integer in (True, False):
        data = build_model(lower(prepared), integer, {})
        weights = [each for each in onnx.load_from_string(data).graph.initializer if len(each.dims) > 1]
        assert len(weights) == 2
        given = onnxruntime.InferenceSession(data, options).run(None, {"input": x.numpy()})[0]
        if integer:
            with torch.no_grad():
                np.testing.assert_array_equal(given, prepared(x).numpy())


def test_a_batch_norm_is_not_folded_into_a_shared_weight() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"layer norm: .* layer b, whose weights another layer shares"):
        prepare_qat(TiedConvolutions(norm=True), QuantSpec(), SHAPE, RANGE)


def test_a_shared_weight_has_one_number_of_bits() -> None:
    with pytest.raises(ModelError, match=r"quant.per_layer: layers first and second share one weight"):
        prepare_qat(Tied(8, 3), QuantSpec(per_layer={"second": 4}), SHAPE, RANGE)


def test_two_parameters_in_one_memory_are_refused() -> None:
    net = Tied(8, 3)
    net.second.weight = nn.Parameter(net.first.weight.data)
    with pytest.raises(ModelError, match=r"second.weight: shares its memory with first.weight"):
        prepare_qat(net, QuantSpec(), SHAPE, RANGE)
    flat = torch.zeros(200)
    apart = Tied(8, 3)
    apart.first.weight, apart.second.weight = nn.Parameter(flat[:64].view(8, 8)), nn.Parameter(flat[64:128].view(8, 8))
    prepare_qat(copy.deepcopy(apart), QuantSpec(), SHAPE, RANGE)
    prepare_qat(apart, QuantSpec(), SHAPE, RANGE)
