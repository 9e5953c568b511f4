"""What the client half of a strategy promises: a loss for each example, a correction that pulls to somewhere, and the
parts and the memory that it says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from fl_client.trainer.memory import decode_memory, encode_memory
from fl_core.tasks import build_task
from fl_core.tree import digest
from simulation.conformance import data
from strategies.base import REFUSED_UNDER_DP, Strategy
from strategies.client import ClientContext, run_to


class OtherWeights:
    """A ``Reference`` to the suite's net: it answers with other weights, without gradient."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __call__(self, weights: Mapping[str, torch.Tensor], x: torch.Tensor, layer: str | None = None) -> torch.Tensor:
        other = data.net(data.SHAPE, data.BLOB_CLASSES)
        other.load_state_dict({**self._net.state_dict(), **weights})
        with torch.no_grad():
            return other(x) if layer is None else run_to(other, layer, x)[1]


def torch_of(groups: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, torch.Tensor]]:
    """Copies of tensors by slot and name, as torch tensors."""
    return {slot: {n: torch.from_numpy(np.array(t)) for n, t in group.items()} for slot, group in groups.items()}


def contexts(strategy: Strategy, net: nn.Module) -> list[ClientContext]:
    """A client's first round and its second, for every phase."""
    state = strategy.init(data.model())
    delta = data.drawn(strategy, "remembered")
    _, memory = strategy.conclude(data.outcome(strategy, state, delta))
    anchor = {name: p.detach().clone() for name, p in net.named_parameters()}
    broadcast = torch_of(strategy.broadcast(state))
    return [
        ClientContext(anchor, broadcast, torch_of(kept), phase, OtherWeights(net))
        for kept in ({}, memory)
        for phase in strategy.phases()
    ]


class ClientHalf:
    """Checks on ``example_loss``, ``correction``, ``phases`` and ``conclude``."""

    def test_the_loss_is_one_number_an_example(self, strategy: Strategy) -> None:
        """Shape [B], finite, with a gradient: whatever stands there is clipped for each example."""
        net, task = data.net(data.SHAPE, data.BLOB_CLASSES), build_task("classification")
        x, y = torch.linspace(-1, 1, 5 * 8).reshape(5, *data.SHAPE), torch.tensor([0, 1, 2, 1, 0])
        for context in contexts(strategy, net):
            loss_B = strategy.example_loss(task, net, x, y, context)
            assert loss_B.shape == (5,)
            assert torch.isfinite(loss_B).all()
            assert loss_B.requires_grad

    def test_the_correction_is_finite_and_names_what_is_trained(self, strategy: Strategy) -> None:
        """Each tensor has the shape of the parameter that it is added to, and no gradient of its own."""
        net = data.net(data.SHAPE, data.BLOB_CLASSES)
        for context in contexts(strategy, net):
            params = {n: nn.Parameter(p.detach() + 0.1) for n, p in net.named_parameters() if context.phase.trains(n)}
            extra = strategy.correction(params, context)
            assert extra.keys() <= params.keys()
            for name, tensor in extra.items():
                assert tensor.shape == params[name].shape
                assert torch.isfinite(tensor).all()
                assert not tensor.requires_grad

    def test_the_correction_is_zero_at_the_anchor_with_an_empty_memory(self, strategy: Strategy) -> None:
        """A client that has just received its first model is pulled nowhere."""
        net = data.net(data.SHAPE, data.BLOB_CLASSES)
        for context in contexts(strategy, net)[: len(strategy.phases())]:
            params = {n: nn.Parameter(p.detach().clone()) for n, p in net.named_parameters()}
            for extra in strategy.correction(params, context).values():
                assert torch.count_nonzero(extra) == 0

    def test_one_phase_is_shared_unless_a_trait_says_more(self, strategy: Strategy) -> None:
        """Under differential privacy only one stretch of training may make the update."""
        shared = [phase for phase in strategy.phases() if not phase.personal]
        assert len(shared) == 1 or (len(shared) > 1 and "several_phases" in strategy.traits)

    @pytest.mark.parametrize("private", [False, True])
    def test_an_update_has_exactly_the_parts_that_were_promised(self, strategy: Strategy, private: bool) -> None:
        """By name, tensor, shape and type; admission rejects every other."""
        if private and strategy.traits & REFUSED_UNDER_DP.keys():
            pytest.skip("refused under per-example DP")
        state = strategy.init(data.model())
        outcome = data.outcome(strategy, state, data.drawn(strategy, "one"), private)
        parts, _ = strategy.conclude(outcome)
        promised = strategy.parts(data.travelling(strategy))
        assert {p: {n: t.shape for n, t in tensors.items()} for p, tensors in parts.items()} == {
            p: {n: t.shape for n, t in tensors.items()} for p, tensors in promised.items()
        }
        assert {t.dtype for tensors in parts.values() for t in tensors.values()} == {np.dtype(np.float32)}
        assert all(np.isfinite(t).all() for tensors in parts.values() for t in tensors.values())

    def test_what_a_client_remembers_survives_its_ledger(self, strategy: Strategy) -> None:
        """Float32 tensors by slot, the same bits after they were written and read."""
        state = strategy.init(data.model())
        _, memory = strategy.conclude(data.outcome(strategy, state, data.drawn(strategy, "one")))
        assert digest(data.joined(decode_memory(encode_memory(memory)))) == digest(data.joined(memory))

    def test_concluding_changes_nothing_that_it_was_given(self, strategy: Strategy) -> None:
        """Outcomes are values."""
        state = strategy.init(data.model())
        outcome = data.outcome(strategy, state, data.drawn(strategy, "one"))
        before = digest(data.joined({"model": outcome.received, "delta": outcome.delta, **outcome.broadcast}))
        first, second = (digest(data.joined(strategy.conclude(outcome)[0])) for _ in range(2))
        assert first == second
        assert digest(data.joined({"model": outcome.received, "delta": outcome.delta, **outcome.broadcast})) == before
