"""One client's local training as the trainer runs it, and plain gradient descent in torch to compare it with.

The toy net without fake-quant, and batches that hold all examples: so the order of the examples does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import toy
from torch import nn

from fl_client.trainer.job import Outcome, TrainJob
from fl_client.trainer.phases import train_phases
from fl_core.quant.forward import FrozenCache
from fl_core.rng import NoiseSource, SeededNoise
from fl_core.types import ClientInfo, DpTerms, Tensors
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of

CLIENT = "client-1"
RATE = 0.2
NO_NOISE = DpTerms(
    epsilon=8, delta=1e-5, clip_norm=1e9, noise_multiplier=0.0, sample_rate=1.0, steps=3, normaliser=48.0
)
"""The mechanism of DP-SGD over all 48 examples with nothing clipped and nothing added: a plain mean gradient."""

Loss = Callable[[nn.Module], torch.Tensor]
Extra = Callable[[str, torch.Tensor], torch.Tensor]


@dataclass
class Client:
    """A client with what it remembers, which every call of ``train`` replaces as if the update had been accepted."""

    setup: Setup
    memory: Mapping[str, Tensors] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path, strategy: str, args: Mapping[str, Any], **clients: Any) -> Client:
        """One of the toy federation, whose model is trained without fake-quant for 3 steps a round."""
        optimizer = {"learning_rate": RATE} | clients.pop("optimizer", {})
        section = {"batch_size": 64, "local_epochs": 3, "optimizer": optimizer} | clients
        config = toy.config(
            out, strategy={"name": strategy, "args": dict(args)}, clients=section, quant={"enabled": False}
        )
        return cls(Setup.of(config, toy.data()))

    def train(
        self,
        received: Tensors,
        broadcast: Mapping[str, Tensors] | None = None,
        round: int = 1,
        dp: DpTerms | None = None,
        noise: NoiseSource | None = None,
    ) -> Outcome:
        """What local training gives from ``received``."""
        info = ClientInfo(CLIENT, 48, "", True)
        plan = replace(plan_of(self.setup, info, round, round - 1), dp=dp)
        x, y = examples()
        spec = self.setup.spec
        net = FrozenCache(spec.build_model(7))
        inputs = net.features(CLIENT, x.numpy(), fake_quant=spec.quant.enabled)
        got = train_phases(
            TrainJob(
                plan, spec, spec.build_task(), self.setup.strategy, net, inputs, y.numpy(),
                noise or SeededNoise(7, "toy", round, CLIENT), received, broadcast or {}, self.memory,
            )
        )  # fmt: skip
        self.memory = got.memory
        return got

    @property
    def start(self) -> Tensors:
        """The initial weights."""
        model: Tensors = self.setup.initial_state().model
        return model


def plain_net(weights: Tensors) -> nn.Sequential:
    """The toy net with these weights; the plain float model."""
    net = toy.model(toy.SHAPE, toy.CLASSES)
    net.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in weights.items()})
    return net


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [48, 2, 8], well inside the range to which a model clamps them, and classes [48] of the client."""
    train = toy.data().clients[CLIENT].train
    return torch.from_numpy(train.x * np.float32(0.9)), torch.from_numpy(train.y)


def cross_entropy(net: nn.Module) -> torch.Tensor:
    """The mean loss over all examples."""
    x, y = examples()
    return F.cross_entropy(net(x), y)


def descend(
    weights: Tensors,
    steps: int = 3,
    loss: Loss = cross_entropy,
    extra: Extra = lambda name, param: torch.zeros_like(param),
    momentum: float = 0.0,
    moves: Callable[[str], bool] = lambda name: True,
    rate: float = RATE,
) -> tuple[Tensors, list[Tensors]]:
    """v <- momentum * v + gradient + extra; w <- w - rate * v. Gives the last weights and the gradient of each step."""
    net = plain_net(weights)
    params = dict(net.named_parameters())
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}
    seen: list[Tensors] = []
    for _ in range(steps):
        grads = dict(zip(params, torch.autograd.grad(loss(net), list(params.values())), strict=True))
        seen.append({name: grad.numpy().copy() for name, grad in grads.items()})
        with torch.no_grad():
            for name, param in params.items():
                if moves(name):
                    velocity[name] = momentum * velocity[name] + grads[name] + extra(name, param)
            for name, param in params.items():
                if moves(name):
                    param -= rate * velocity[name]
    return {name: p.detach().numpy().copy() for name, p in params.items()}, seen


def assert_close(got: Tensors, expected: Tensors, atol: float = 1e-6) -> None:
    """Equal names, and values within ``atol``."""
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=atol, err_msg=name)
