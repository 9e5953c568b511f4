"""What a Flower shell needs of a trainer, wherever that trainer lives: four questions, each with one answer or error.

The shell knows nothing else, so the same ClientApp serves a simulation, where the trainer is an object in the same
process, and a board, where it is another process behind a socket. Nothing here loads torch.
"""

from __future__ import annotations

from typing import Protocol

from fl_core.types import ClientInfo, RoundPlan, Tensors


class TrainerApi(Protocol):
    """The trainer of one client, as its shell sees it.

    Raises:
        PrivacyError: from every method but ``info``: policy, budget or allow-list refuse the plan; the shell answers
            with a refusal.
        StonecropError: from every method: the plan cannot be carried out; the shell answers with an error reply.
    """

    def info(self) -> ClientInfo:
        """What the server may know of the client before it plans anything."""
        ...

    def ranges(self, plan: RoundPlan, model: Tensors) -> bytes:
        """The encoded answer to a plan of round 0: noisy histograms of activation magnitudes."""
        ...

    def train(self, plan: RoundPlan, model: Tensors) -> bytes:
        """The encoded update that local training from ``model`` gives."""
        ...

    def evaluate(self, plan: RoundPlan, model: Tensors) -> dict[str, float]:
        """Mean scores of ``model`` on the client's own held-out examples, and their number."""
        ...
