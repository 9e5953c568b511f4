"""Nets and tasks of the kind that people bring and that are not what they seem; each is named by a config's factory."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_core.tasks.classification import Classification
from fl_core.tasks.regression import Regression


class Tied(nn.Module):
    """Two hidden layers that are one matrix."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        self.second.weight = self.first.weight
        self.last = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


def tied(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return Tied(int(np.prod(input_shape)), outputs)


def trailing(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv1d(input_shape[0], outputs, 1), nn.AdaptiveAvgPool1d(1))


def normalised(input_shape: tuple[int, ...], outputs: int, seen: bool = False) -> nn.Module:
    net = nn.Sequential(nn.Conv1d(input_shape[0], 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        features = net.train(seen)(torch.randn(8, *input_shape)).shape[1]
    return net.append(nn.Linear(features, outputs)).train()


def double(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), outputs)).double()


def frozen(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), outputs))
    return net.requires_grad_(False)


def drawn_anew(input_shape: tuple[int, ...], outputs: int, what: str) -> nn.Module:
    """A net of which ``what`` is another at every call, whatever the seed."""
    draw, width = np.random.default_rng(), 4
    net = nn.Sequential(nn.Conv1d(input_shape[0], width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Flatten())
    values = torch.from_numpy(draw.random(width, np.float32))
    if what == "frozen weight":
        net[0].bias = nn.Parameter(values, requires_grad=False)
    elif what == "statistics":
        net[1].running_mean = values
    elif what == "layer":
        net.insert(4, nn.Dropout(float(draw.uniform(0.1, 0.9))))
    elif what == "size":
        wide = int(draw.integers(1, 2**16))
        net += nn.Sequential(
            nn.Linear(width * input_shape[1], wide), nn.ReLU(), nn.Linear(wide, width * input_shape[1])
        )
    return net.append(nn.Linear(width * input_shape[1], outputs))


def drawn_from_the_global_generators(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), outputs, bias=False))
    scale = random.random() + np.random.random()
    net[1].weight = nn.Parameter(scale * torch.rand_like(net[1].weight))
    return net


class MeanLoss(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return F.cross_entropy(output_BX, target_B)


class Broadcasting(Regression):
    """[B, 1] against [B] gives [B, B], and its mean over one axis looks like a loss for each example."""

    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return F.mse_loss(output_BX, target_B, reduction="none").mean(1)


class Neighbours(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        loss_B = F.cross_entropy(output_BX, target_B, reduction="none")
        return loss_B / loss_B.detach().mean()


class ManyNeighbours(Neighbours):
    """Looks at its neighbours once it has many."""

    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        if len(target_B) > 20:
            return super().example_loss(output_BX, target_B)
        return F.cross_entropy(output_BX, target_B, reduction="none")


class Detached(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return F.cross_entropy(output_BX.detach(), target_B, reduction="none")


class Flat(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return 0 * super().example_loss(output_BX, target_B)


class WideMargin(Classification):
    """Flat at outputs far from the wrong class, as a hinge is."""

    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return F.relu(1e-3 - output_BX.gather(1, target_B[:, None])[:, 0])


class Endless(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return super().example_loss(output_BX, target_B) / 0.0


class Raising(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return F.cross_entropy(output_BX, target_B, reduction="nothing")


class OneScore(Classification):
    def example_score(self, output_BX: np.ndarray, target_B: np.ndarray) -> np.ndarray:
        return (output_BX.argmax(1) == target_B).mean()


class WritesTargets(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        loss_B = super().example_loss(output_BX, target_B)
        target_B.fill_(0)
        return loss_B


class WritesOutputs(Classification):
    def example_loss(self, output_BX: Tensor, target_B: Tensor) -> Tensor:
        return super().example_loss(output_BX.mul_(2.0), target_B)


class ScoresInPlace(Classification):
    """Makes every answer right for the next one who looks."""

    def example_score(self, output_BX: np.ndarray, target_B: np.ndarray) -> np.ndarray:
        score_B = super().example_score(output_BX, target_B)
        target_B[:] = output_BX.argmax(1)
        return score_B


class ScoresInTorch(Classification):
    """Torch writes where numpy would not."""

    def example_score(self, output_BX: np.ndarray, target_B: np.ndarray) -> np.ndarray:
        right_B = super().example_score(output_BX, target_B)
        torch.from_numpy(target_B).fill_(0)
        return right_B


class ScoresLike(Classification):
    """Gives what ``given`` makes of the scores."""

    def __init__(self, given: Callable[[np.ndarray], object] = lambda score_B: score_B) -> None:
        self.given = given

    def example_score(self, output_BX: np.ndarray, target_B: np.ndarray) -> np.ndarray:
        return self.given(super().example_score(output_BX, target_B))  # type: ignore[return-value]


class ChecksInPlace(Classification):
    def check_targets(self, owner: str, target_B: np.ndarray, outputs: int | None) -> None:
        target_B[:] = 0


class TwoArguments(Classification):
    def check_targets(self, target_B: np.ndarray) -> None:  # type: ignore[override]
        pass
