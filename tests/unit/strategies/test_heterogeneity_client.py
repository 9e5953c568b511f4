"""Client halves against the papers' local loops, written down in plain torch: equal within 1e-6 after two rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fl_core.tree import subtract
from fl_core.types import Tensors
from strategies.client import PERSONAL
from support.local import NO_NOISE, RATE, Client, assert_close, cross_entropy, descend, examples, plain_net

STEPS = 3
HEAD = ("3.weight", "3.bias")


def shifted(weights: Tensors, by: float) -> Tensors:
    """Another model that a server might send."""
    return {name: (tensor + np.float32(by)).astype(np.float32) for name, tensor in weights.items()}


def is_head(name: str) -> bool:
    return name in HEAD


def is_body(name: str) -> bool:
    return name not in HEAD


def zeros(weights: Tensors) -> Tensors:
    return {name: np.zeros_like(tensor) for name, tensor in weights.items()}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaffold(tmp_path: Path, momentum: float):
    client = Client.of(tmp_path, "scaffold", {}, optimizer={"momentum": momentum})
    x, control = client.start, zeros(client.start)
    weight = [1 - momentum ** (STEPS - s) for s in range(STEPS)]  # of the gradient of each step; times 1/(1 - m)
    for round, common in ((1, zeros(x)), (2, shifted(zeros(x), 0.01))):
        got = client.train(x, {"control": common}, round)

        def extra(name: str, param: torch.Tensor, c: Tensors = common, c_k: Tensors = control) -> torch.Tensor:
            return torch.from_numpy(c[name] - c_k[name])

        end, gradients = descend(x, extra=extra, momentum=momentum)
        assert_close(got.parts["delta"], subtract(end, x))
        # option II is the mean of the gradients of the steps
        new = {n: sum(w * g[n] for w, g in zip(weight, gradients, strict=True)) / sum(weight) for n in x}
        assert_close(got.memory["control"], new, atol=2e-6)
        assert_close(got.parts["control"], subtract(new, control), atol=2e-6)
        if not momentum:
            paper = {n: control[n] - common[n] + (x[n] - end[n]) / (STEPS * RATE) for n in x}
            assert_close(got.memory["control"], paper, atol=2e-6)
        x, control = shifted(x, 0.02), got.memory["control"]


def test_scaffold_under_a_schedule_divides_by_the_rate_of_the_round(tmp_path: Path):
    client = Client.of(tmp_path, "scaffold", {}, optimizer={"schedule": "linear"})
    x = client.start
    got = client.train(x, {"control": zeros(x)}, round=3)
    _, gradients = descend(x, rate=RATE / 3)
    assert_close(got.memory["control"], {n: sum(g[n] for g in gradients) / STEPS for n in x}, atol=2e-6)


def test_feddyn(tmp_path: Path):
    alpha = 0.3
    client = Client.of(tmp_path, "feddyn", {"alpha": alpha})
    x, gradient = client.start, zeros(client.start)
    for round in (1, 2):

        def loss(net: torch.nn.Module, x: Tensors = x, gradient: Tensors = gradient) -> torch.Tensor:
            """The paper's local objective, whole."""
            terms = cross_entropy(net)
            for name, param in net.named_parameters():
                terms = terms - (torch.from_numpy(gradient[name]) * param).sum()
                terms = terms + alpha / 2 * (param - torch.from_numpy(x[name])).square().sum()
            return terms

        got = client.train(x, round=round)
        end, _ = descend(x, loss=loss)
        assert_close(got.parts["delta"], subtract(end, x))
        gradient = {n: (gradient[n] - alpha * (end[n] - x[n])).astype(np.float32) for n in x}
        assert_close(got.memory["gradient"], gradient)
        x = shifted(x, 0.02)


@pytest.mark.parametrize("private", [False, True])
def test_moon(tmp_path: Path, private: bool):
    mu, temperature = 0.7, 0.4
    client = Client.of(tmp_path, "moon", {"mu": mu, "temperature": temperature})
    dp = NO_NOISE if private else None
    x, previous = client.start, None
    for round in (1, 2):

        def loss(net: torch.nn.Module, x: Tensors = x, previous: Tensors | None = previous) -> torch.Tensor:
            if previous is None:
                return cross_entropy(net)
            inputs, y = examples()
            z = net[:3](inputs)  # type: ignore[index]
            with torch.no_grad():
                z_global, z_previous = (plain_net(weights)[:3](inputs) for weights in (x, previous))
            near = torch.exp(F.cosine_similarity(z, z_global, dim=1) / temperature)
            far = torch.exp(F.cosine_similarity(z, z_previous, dim=1) / temperature)
            return F.cross_entropy(net[3](z), y) + mu * (-torch.log(near / (near + far))).mean()  # type: ignore[index]

        got = client.train(x, round=round, dp=dp)
        end, _ = descend(x, loss=loss)
        assert_close(got.parts["delta"], subtract(end, x), atol=1e-6 if not private else 1e-5)
        previous = got.memory["previous"]
        assert_close(previous, end, atol=1e-6 if not private else 1e-5)
        x = shifted(x, 0.05)


def test_moons_term_moves_the_model(tmp_path: Path):
    """Else the comparison above could hold for two losses without it."""
    ends = []
    for mu in (0.0, 1.0):
        client = Client.of(tmp_path / str(mu), "moon", {"mu": mu})
        client.train(client.start)
        ends.append(client.train(shifted(client.start, 0.05), round=2).parts["delta"])
    assert max(float(np.abs(ends[0][n] - ends[1][n]).max()) for n in ends[0]) > 1e-4


def test_ditto(tmp_path: Path):
    strength = 0.4
    client, plain = Client.of(tmp_path, "ditto", {"strength": strength}), Client.of(tmp_path, "fedavg", {})
    x = v = client.start
    for round in (1, 2):
        got, alone = client.train(x, round=round), plain.train(x, round=round)
        for name in x:
            np.testing.assert_array_equal(got.parts["delta"][name], alone.parts["delta"][name])

        def pull(name: str, param: torch.Tensor, x: Tensors = x) -> torch.Tensor:
            return strength * (param - torch.from_numpy(x[name]))

        v, _ = descend(v, extra=pull)
        assert got.personal is not None
        assert_close(got.personal, v)
        assert_close(got.memory[PERSONAL], v)
        x = shifted(x, 0.02)


def test_dittos_personal_model_has_no_noise_and_leaves_the_private_update_alone(tmp_path: Path):
    dp = NO_NOISE.__class__(**{**vars(NO_NOISE), "noise_multiplier": 1.0, "clip_norm": 1.0})
    client, plain = Client.of(tmp_path, "ditto", {"strength": 0.4}), Client.of(tmp_path, "fedavg", {})
    got, alone = client.train(client.start, dp=dp), plain.train(client.start, dp=dp)
    for name in client.start:
        np.testing.assert_array_equal(got.parts["delta"][name], alone.parts["delta"][name])
    assert got.personal is not None
    x = client.start
    assert_close(got.personal, descend(x, extra=lambda n, p: 0.4 * (p - torch.from_numpy(x[n])))[0])


def test_finetuning_starts_at_the_received_model_every_round(tmp_path: Path):
    client = Client.of(tmp_path, "finetune", {"epochs": 2})
    x = client.start
    for round in (1, 2):
        got = client.train(x, round=round)
        assert got.personal is not None
        assert_close(got.personal, descend(x, steps=2)[0])
        assert_close(got.parts["delta"], subtract(descend(x)[0], x))
        x = shifted(x, 0.02)


@pytest.mark.parametrize("private", [False, True])
def test_fedper(tmp_path: Path, private: bool):
    client = Client.of(tmp_path, "fedper", {})
    x = own = client.start
    for round in (1, 2):
        got = client.train(x, round=round, dp=NO_NOISE if private else None)
        start = {n: own[n] if is_head(n) else x[n] for n in x}
        own, _ = descend(start)
        atol = 1e-5 if private else 1e-6
        assert_close(got.parts["delta"], {n: own[n] - start[n] for n in x if is_body(n)}, atol)
        assert got.personal is not None
        assert_close(got.personal, own, atol)
        x = shifted(x, 0.02)


def test_fedrep(tmp_path: Path):
    client = Client.of(tmp_path, "fedrep", {"head_epochs": 4, "body_epochs": 2})
    x = own = client.start
    for round in (1, 2):
        got = client.train(x, round=round)
        start = {n: own[n] if is_head(n) else x[n] for n in x}
        after_head, _ = descend(start, steps=4, moves=is_head)
        own, _ = descend(after_head, steps=2, moves=is_body)
        assert_close(got.parts["delta"], {n: own[n] - start[n] for n in x if is_body(n)})
        assert got.personal is not None
        assert_close(got.personal, own)
        x = shifted(x, 0.02)


def test_fedbn(tmp_path: Path):
    client = Client.of(tmp_path, "fedbn", {})
    x = own = client.start
    for round in (1, 2):
        got = client.train(x, round=round)
        start = {n: own[n] if n.endswith("bias") else x[n] for n in x}
        own, _ = descend(start)
        assert_close(got.parts["delta"], {n: own[n] - start[n] for n in x if n.endswith("weight")})
        x = shifted(x, 0.02)


def test_fednova_sends_the_displacement_of_one_effective_step(tmp_path: Path):
    client = Client.of(tmp_path, "fednova", {}, optimizer={"momentum": 0.9})
    got = client.train(client.start)
    end, _ = descend(client.start, momentum=0.9)
    steps = 1 + 1.9 + 2.71
    np.testing.assert_allclose(got.parts["steps"]["steps"], [steps], rtol=1e-6)
    assert_close(got.parts["delta"], {n: (end[n] - client.start[n]) / steps for n in end})
