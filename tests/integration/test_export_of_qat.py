"""From a quantization-aware model to its artefact: what the fake-quant forward says is what the runtime answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fl_core.export.artifact import Origin, replay
from fl_core.export.make import ExportRequest, make_artifact
from fl_core.export.onnx.exporter import OnnxExporter
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import GridKind, QuantSpec


class Branches(nn.Module):
    """A residual add, a concat of two grids, hard-swish and sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gate = nn.Conv2d(8, 4, 1)
        self.act = nn.Hardswish()
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.b(torch.relu(self.a(x))) + x)
        y = torch.cat([self.act(self.gate(x)), x, torch.sigmoid(x)], 1)
        out: Tensor = self.head(y.mean((2, 3)))
        return out


def separable(channels: int) -> list[nn.Module]:
    """A depthwise and a pointwise convolution."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return [depthwise, nn.ReLU6(), nn.Conv2d(channels, channels, 1), nn.ReLU6()]


def nets() -> Mapping[str, tuple[tuple[int, ...], nn.Module]]:
    torch.manual_seed(0)
    one_d = [nn.Conv1d(6, 12, 5, 2, 2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(12, 16, 3), nn.ReLU(), nn.AvgPool1d(2)]
    stem = [nn.Conv2d(1, 16, (7, 3), 2), nn.ReLU6()]
    made = {
        "imu": ((6, 64), nn.Sequential(*one_d, nn.Flatten(), nn.Dropout(0.2), nn.Linear(112, 6))),
        "separable": (
            (1, 25, 11),
            nn.Sequential(*stem, *separable(16), *separable(16), nn.AvgPool2d((10, 1)), nn.Flatten(), nn.Linear(80, 8)),
        ),
        "branches": ((3, 14, 14), Branches()),
    }
    for _, net in made.values():
        for module in net.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)  # else the signal of a deep net fades to a few steps
    return made


@pytest.mark.parametrize("bits", [8, 2])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("name", list(nets()))
def test_artefact_computes_what_was_trained(name: str, grid: GridKind, bits: int, tmp_path: Path) -> None:
    shape, net = nets()[name]
    x = torch.rand(150, *shape, generator=torch.Generator().manual_seed(1)) * 4 - 2
    net.eval()
    head = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    spec = QuantSpec(grid=grid, weight_bits=bits, ranges="public")
    with torch.no_grad():
        bound = float(net(x).abs().max())
        model = prepare_qat(net, spec, shape, (-2.0, 2.0), {head: (-bound, bound)})
        expected = model(x).numpy()
    assert np.unique(expected).size > 20
    request = ExportRequest(lower(model), x.numpy(), expected, True, Origin("qat", 0))
    made = make_artifact(request, OnnxExporter(), tmp_path / "out").artifact
    assert made.parity.max_lsb <= 1
    assert made.parity.exact_fraction > 0.99
    replay(tmp_path / "out")
