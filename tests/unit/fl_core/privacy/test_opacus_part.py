"""Private training holds of Opacus what it needs, and other code that imports Opacus gets all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

BULK = ("scipy.stats", "scipy.optimize", "sympy", "torch.distributed.tensor", "opacus.accountants")
_STEP = """
import sys
import torch
from torch import nn
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.rng import SeededNoise
from fl_core.types import DpTerms

model = nn.Sequential(nn.Linear(3, 2)).train()
terms = DpTerms(8.0, 1e-5, clip_norm=1.0, noise_multiplier=1.0, sample_rate=1.0, steps=1, normaliser=4.0)
with PrivateStep(model, terms, SeededNoise(1, "run", 1, "client")) as private:
    private.step(0, torch.ones(4, 3), torch.zeros(4), lambda net, x, y: net(x).sum(1))
assert model[0].weight.grad is not None
"""


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", _STEP + code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_private_step_loads_no_accountant_optimizer_or_algebra_of_opacus():
    assert run(f"print([name for name in {BULK!r} if name in sys.modules])") == "[]"


def test_a_plain_convolution_is_trained_in_a_process_that_has_imported_nothing_else():
    code = """
model = nn.Sequential(nn.Conv1d(1, 2, 2), nn.Flatten()).train()
with PrivateStep(model, terms, SeededNoise(1, "run", 1, "client")) as private:
    private.step(0, torch.ones(4, 1, 3), torch.zeros(4), lambda net, x, y: net(x).sum(1))
print(tuple(model[0].weight.grad.shape))
"""
    assert run(code) == "(2, 1, 2)"


@pytest.mark.parametrize(
    "wanted",
    [
        "import opacus; engine = opacus.PrivacyEngine",
        "from opacus import PrivacyEngine as engine",
        "from opacus.privacy_engine import PrivacyEngine as engine",
    ],
)
def test_other_code_gets_the_whole_of_opacus_with_the_same_classes(wanted: str):
    code = f"""
{wanted}
import opacus
from opacus.grad_sample import GradSampleModule
print(engine.__name__, opacus.GradSampleModule is GradSampleModule)
print(opacus.grad_sample.GradSampleModule is GradSampleModule)
print(all(hasattr(opacus, name) for name in opacus.__all__))
"""
    assert run(code).split() == ["PrivacyEngine", "True", "True", "True"]
