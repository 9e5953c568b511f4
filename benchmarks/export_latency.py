"""Latency and size of int8 artefacts against their float32 twins, in one run, in ONNX Runtime on one thread.

    python benchmarks/export_latency.py

Both come from one graph and run turn by turn in one process, so that the ratios hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fl_core.export.make import synthetic_inputs
from fl_core.export.onnx.exporter import OnnxExporter, open_session
from fl_core.quant.lower import lower
from fl_core.quant.prepare import prepare_qat
from fl_core.quant.spec import QuantSpec


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, out, 3, stride, 1), nn.Conv2d(out, out, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def separable(channels: int) -> list[nn.Module]:
    """A depthwise and a pointwise convolution."""
    depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
    return [depthwise, nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU()]


def nets() -> dict[str, tuple[tuple[int, ...], nn.Module]]:
    """A small net for each kind of data, and the two of MLPerf Tiny that have convolutions (arXiv 2106.07597)."""
    imu = [nn.Conv1d(6, 16, 5, 2, 2), nn.ReLU(), nn.Conv1d(16, 32, 5, 2, 2), nn.ReLU(), nn.MaxPool1d(4)]
    image = [nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    ds_cnn = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), nn.ReLU(), *(layer for _ in range(4) for layer in separable(64))]
    resnet = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    mean = nn.AdaptiveAvgPool2d(1)
    return {
        "IMU CNN 6x128": ((6, 128), nn.Sequential(*imu, nn.Flatten(), nn.Linear(256, 6))),
        "image CNN 28x28": ((1, 28, 28), nn.Sequential(*image, nn.Flatten(), nn.Linear(784, 10))),
        "DS-CNN 49x10": ((1, 49, 10), nn.Sequential(*ds_cnn, mean, nn.Flatten(), nn.Linear(64, 12))),
        "ResNet-8 32x32": ((3, 32, 32), nn.Sequential(*resnet, mean, nn.Flatten(), nn.Linear(64, 10))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    table = Table("net", "grid", "float us p50", "int8 us p50", "speed-up", "float bytes", "int8 bytes", "smaller")
    for name, (shape, net) in nets().items():
        for grid in ("asymmetric", "symmetric"):
            lowered = lower(prepare_qat(net, QuantSpec(grid=grid), shape, (-1.0, 1.0)))
            x = synthetic_inputs(lowered, args.batch, np.random.default_rng(0))
            with tempfile.TemporaryDirectory() as folder:
                exporter = OnnxExporter()
                made = exporter.export_float(lowered, Path(folder)), exporter.export(lowered, Path(folder), {})
                paths = [files[0] for files in made]
                (slow, fast), (large, small) = _latencies_us(paths, x, args.repeats), [p.stat().st_size for p in paths]
            latencies = (f"{slow:.0f}", f"{fast:.0f}", f"{slow / fast:.2f} x")
            table.add_row(name, grid, *latencies, str(large), str(small), f"{large / small:.2f} x")
    Console().print(table)


def _latencies_us(paths: list[Path], x: np.ndarray, repeats: int) -> list[float]:
    """Median latency of each model, in turns."""
    sessions = [open_session(path) for path in paths]
    taken_us: list[list[float]] = [[] for _ in paths]
    for _ in range(repeats):
        for session, record in zip(sessions, taken_us, strict=True):
            start = time.perf_counter()
            session.run(None, {"input": x})
            record.append(1e6 * (time.perf_counter() - start))
    return [float(np.median(record)) for record in taken_us]


if __name__ == "__main__":
    main()
