"""Every step is torch's own, bit for bit, whatever the rate, the momentum and the weight decay."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from fl_client.trainer.sgd import Sgd


def shapes(seed: int) -> list[nn.Parameter]:
    draws = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=draws)) for shape in ((7,), (5, 3), (4, 2, 3))]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("rate", [0.1, 8.0])
def test_steps_are_those_of_torch(rate: float, momentum: float, weight_decay: float) -> None:
    ours, theirs = shapes(1), shapes(1)
    sgd = Sgd(ours, rate, momentum, weight_decay)
    reference = torch.optim.SGD(theirs, lr=rate, momentum=momentum, weight_decay=weight_decay)
    draws = torch.Generator().manual_seed(2)
    for step in range(5):
        sgd.zero_grad()
        for number, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(own.shape, generator=draws)
            missing = number == step  # each is left out of one step
            own.grad, other.grad = (None, None) if missing else (gradient.clone(), gradient.clone())
        sgd.step()
        reference.step()
        assert all(torch.equal(own, other) for own, other in zip(ours, theirs, strict=True))


def test_a_gradient_stays_what_it_was() -> None:
    (param, *_) = shapes(1)
    param.grad = torch.ones_like(param)
    sgd = Sgd([param], 0.1, 0.9, 0.1)
    sgd.step()
    sgd.step()
    assert torch.equal(param.grad, torch.ones_like(param))


def test_nothing_of_torchs_compiler_is_imported() -> None:
    code = (
        "import sys, torch; from fl_client.trainer.sgd import Sgd; p = torch.nn.Parameter(torch.ones(2)); "
        "p.sum().backward(); Sgd([p], 0.1).step(); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
