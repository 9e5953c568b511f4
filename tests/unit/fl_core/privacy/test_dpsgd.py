"""A private step is the clipped, summed, noised gradient of a Poisson sample, whatever the examples hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fl_core.errors import ModelError, PrivacyError
from fl_core.privacy.dpsgd import PrivateStep
from fl_core.rng import BoolArray, NormalArray, SeededNoise
from fl_core.types import DpTerms

TERMS = DpTerms(epsilon=8.0, delta=1e-5, clip_norm=0.7, noise_multiplier=1.3, sample_rate=0.5, steps=3, normaliser=5.0)


@dataclass(frozen=True)
class Silent:
    """No noise, and the sample that the test asks for."""

    mask: BoolArray
    simulated: bool = True

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        return np.zeros(tuple(shape))

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        return self.mask


def cross_entropy(model: nn.Module, x_BX: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(x_BX), target_B, reduction="none")


def small_cnn(seed: int = 0, *, frozen_front: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(24, 3)
        )
    for param in model[0].parameters() if frozen_front else []:
        param.requires_grad_(False)
    return model


def some_examples(count: int, seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 8, generator=source) * scale, torch.randint(0, 3, (count,), generator=source)


def one_by_one(model: nn.Module, x_NX: torch.Tensor, y_N: torch.Tensor, clip_norm: float) -> list[torch.Tensor]:
    """The reference: a loop over single examples with plain autograd, in float64."""
    params = [p for _, p in sorted(model.named_parameters()) if p.requires_grad]
    sums = [torch.zeros(p.shape, dtype=torch.float64) for p in params]
    for x_X, y in zip(x_NX, y_N, strict=True):
        grads = [g.double() for g in torch.autograd.grad(cross_entropy(model, x_X[None], y[None]).sum(), params)]
        norm = torch.cat([g.flatten() for g in grads]).norm()
        for total, grad in zip(sums, grads, strict=True):
            total += grad * min(1.0, clip_norm / float(norm))
    return sums


def gradients(model: nn.Module) -> list[torch.Tensor]:
    params = [p for _, p in sorted(model.named_parameters()) if p.requires_grad]
    assert all(p.grad is not None for p in params)
    return [p.grad.clone() for p in params if p.grad is not None]


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors])


@given(
    count=st.integers(1, 12),
    clip_norm=st.sampled_from([0.05, 1.0, 100.0]),
    physical=st.integers(1, 14),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    frozen_front=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_gradient_is_that_of_a_loop_over_single_examples(
    count: int, clip_norm: float, physical: int, scale: float, frozen_front: bool, seed: int
) -> None:
    model, (x_NX, y_N) = small_cnn(seed, frozen_front=frozen_front), some_examples(count, seed, scale)
    mask = np.random.default_rng(seed).random(count) < 0.7
    terms = dataclasses.replace(TERMS, clip_norm=clip_norm)
    with PrivateStep(model, terms, Silent(mask), max_physical_batch=physical) as private:
        private.step(0, x_NX, y_N, cross_entropy)
    expected = flat(one_by_one(model, x_NX[mask], y_N[mask], clip_norm)) / terms.normaliser
    assert torch.allclose(flat(gradients(model)), expected, rtol=3e-5, atol=3e-5 * clip_norm)


def test_noise_and_sample_are_those_of_the_source() -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(20)
    noise = SeededNoise(1, "run", 1, "client")
    with PrivateStep(model, TERMS, noise) as private:
        private.step(2, x_NX, y_N, cross_entropy)
    mask = noise.poisson_mask(2, 20, TERMS.sample_rate)
    sums = one_by_one(model, x_NX[mask], y_N[mask], TERMS.clip_norm)
    names = sorted(name for name, _ in model.named_parameters())
    draws = [torch.from_numpy(noise.normal(2, n, s.shape)) for n, s in zip(names, sums, strict=True)]
    expected = (flat(sums) + flat(draws) * TERMS.noise_multiplier * TERMS.clip_norm) / TERMS.normaliser
    assert torch.allclose(flat(gradients(model)), expected, atol=1e-5)


@pytest.mark.parametrize("physical", [1, 3, 7, 100])
def test_chunks_do_not_change_the_result(physical: int) -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(40)
    found = []
    for chunk in (physical, 1000):
        with PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c"), max_physical_batch=chunk) as private:
            private.step(0, x_NX, y_N, cross_entropy)
        found.append(flat(gradients(model)))
    assert torch.allclose(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [0, 10])
def test_an_empty_sample_still_gives_noise(count: int) -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(count)
    terms = dataclasses.replace(TERMS, sample_rate=1e-9)
    with PrivateStep(model, terms, SeededNoise(1, "run", 1, "c")) as private:
        private.step(0, x_NX, y_N, cross_entropy)
    draws = flat(gradients(model)) * terms.normaliser / (terms.noise_multiplier * terms.clip_norm)
    assert float(draws.std()) == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("physical", [1, 100])
def test_an_example_without_a_finite_gradient_counts_as_zero(poison: float, physical: int) -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(6)
    x_NX[2] = poison
    sampled = np.ones(6, dtype=bool)
    with PrivateStep(model, TERMS, Silent(sampled), max_physical_batch=physical) as private:
        private.step(0, x_NX, y_N, cross_entropy)
    with_poison = flat(gradients(model))
    others = [0, 1, 3, 4, 5]
    expected = flat(one_by_one(model, x_NX[others], y_N[others], TERMS.clip_norm)) / TERMS.normaliser
    assert torch.isfinite(with_poison).all()
    assert torch.allclose(with_poison, expected, atol=1e-5)


@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 1e4, 1e15]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_one_example_never_moves_the_sum_by_more_than_the_clip_norm(seed: int, scale: float) -> None:
    model, (x_NX, y_N) = small_cnn(seed), some_examples(5, seed)
    x_NX[0] *= scale
    sums = []
    for first in (True, False):
        mask = np.array([first, True, True, True, True])
        with PrivateStep(model, TERMS, Silent(mask)) as private:
            private.step(0, x_NX, y_N, cross_entropy)
        sums.append(flat(gradients(model)) * TERMS.normaliser)
    assert float((sums[0] - sums[1]).norm()) <= TERMS.clip_norm * (1 + 1e-6)


def test_frozen_parameters_get_no_gradient_and_cost_no_memory() -> None:
    model, (x_NX, y_N) = small_cnn(frozen_front=True), some_examples(8)
    with PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c")) as private:
        private.step(0, x_NX, y_N, cross_entropy)
        assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in model[0].parameters())


def test_an_unused_parameter_gets_noise_alone() -> None:
    class HalfUsed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x_BX: torch.Tensor) -> torch.Tensor:
            return self.used(x_BX.flatten(1))

    model, (x_NX, y_N), noise = HalfUsed(), some_examples(8), SeededNoise(1, "run", 1, "c")
    with PrivateStep(model, TERMS, noise) as private:
        private.step(0, x_NX, y_N, cross_entropy)
    expected = noise.normal(0, "unused.weight", (3, 16)) * TERMS.noise_multiplier * TERMS.clip_norm / TERMS.normaliser
    assert model.unused.weight.grad is not None
    assert np.allclose(model.unused.weight.grad.numpy(), expected, atol=1e-6)


def test_the_hooks_leave_with_the_step() -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(4)
    before = set(vars(model[4].weight))
    for _ in range(2):
        with PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c")) as private:
            private.step(0, x_NX, y_N, cross_entropy)
    cross_entropy(model, x_NX, y_N).sum().backward()
    assert set(vars(model[4].weight)) == before
    assert not model[4]._forward_hooks
    assert not model[4]._backward_hooks


def test_layers_that_mix_examples_are_refused() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, affine=False), nn.Flatten(), nn.Linear(24, 3))
    with pytest.raises(PrivacyError, match=r"layer 1 \(BatchNorm1d\) mixes"):
        PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c"))
    model[1].eval()
    x_NX, y_N = some_examples(8)
    with PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c")) as private:
        private.step(0, x_NX, y_N, cross_entropy)


def test_a_range_that_follows_the_data_is_refused() -> None:
    class Observer(nn.Module):
        largest: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("largest", torch.zeros(()))

        def forward(self, x_BX: torch.Tensor) -> torch.Tensor:
            self.largest.copy_(torch.maximum(self.largest, x_BX.detach().amax()))
            return x_BX

    model, (x_NX, y_N) = nn.Sequential(Observer(), nn.Flatten(), nn.Linear(16, 3)), some_examples(8)
    with (
        PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c")) as private,
        pytest.raises(PrivacyError, match=r"buffer 0\.largest changed"),
    ):
        private.step(0, x_NX, y_N, cross_entropy)


def test_a_loss_over_the_whole_batch_is_refused() -> None:
    model, (x_NX, y_N) = small_cnn(), some_examples(20)
    with (
        PrivateStep(model, TERMS, SeededNoise(1, "run", 1, "c")) as private,
        pytest.raises(ModelError, match="expected one loss for each of"),
    ):
        private.step(0, x_NX, y_N, lambda net, x_BX, y_B: cross_entropy(net, x_BX, y_B).mean())


def test_models_that_cannot_be_trained_are_refused() -> None:
    frozen = small_cnn()
    frozen.requires_grad_(False)
    with pytest.raises(ModelError, match="at least one trainable parameter"):
        PrivateStep(frozen, TERMS, SeededNoise(1, "run", 1, "c"))
    with pytest.raises(ModelError, match="training mode"):
        PrivateStep(small_cnn().eval(), TERMS, SeededNoise(1, "run", 1, "c"))
