"""FedBuff, buffered asynchronous aggregation (Nguyen et al. 2021, arXiv 2106.06639).

    on each reply:       buffer <- buffer + s(staleness) * delta_k
    when K are in it:    w <- w + server_learning_rate * buffer / K;  version + 1;  buffer <- 0

The sum is divided by K, not by the sum of the s: stale updates make a smaller step, not a louder minority. Without DP
updates weigh by their numbers of examples, as in FedAvg; the paper's K equal ones are the case of equal clients. The
step is the ``inner`` strategy's, FedAvg unless said otherwise, and so is the clients' half: a server optimiser or a
proximal term composes. Scaling by s is after any noise, so it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fl_core.types import ClientUpdate
from strategies.base import MODEL_PART, StrategyState, Trait
from strategies.staleness import Staleness, check_staleness, staleness_weight, versions_behind, with_delta
from strategies.wrapper import PassThrough


@dataclass(frozen=True, kw_only=True)
class FedBuff(PassThrough):
    """A version ends when ``buffer_size`` updates are in; older ones than ``max_staleness`` are rejected."""

    buffer_size: int = 10
    staleness: Staleness = "polynomial"
    a: float = 0.5
    b: float = 4.0
    max_staleness: int | None = 20
    traits: ClassVar[frozenset[Trait]] = frozenset({"asynchronous"})

    def __post_init__(self) -> None:
        if self.buffer_size < 1:
            raise ValueError(f"strategy.args.buffer_size: expected at least 1, got {self.buffer_size}")
        check_staleness(self.staleness, self.a, self.b, self.max_staleness)
        parts = sorted(self.inner.parts({}))
        if parts != [MODEL_PART]:
            raise ValueError(
                f"strategy.args.inner: expected a strategy whose clients send {MODEL_PART!r} alone, for only its "
                f"staleness is known how to weigh, got {type(self.inner).__name__} with {parts}"
            )
        if "asynchronous" in self.inner.traits:
            raise ValueError(f"strategy.args.inner: expected a synchronous strategy, got {type(self.inner).__name__}")
        if self.buffer_size < self.inner.least_updates:
            raise ValueError(
                f"strategy.args.buffer_size: expected at least {self.inner.least_updates}, the fewest updates with "
                f"which {type(self.inner).__name__} moves, got {self.buffer_size}"
            )
        super().__post_init__()

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add weight * s(staleness) * delta to the buffer.

        Raises:
            UpdateRejectedError: the update is too stale.
        """
        versions = versions_behind(state, update, self.max_staleness)
        scale = staleness_weight(self.staleness, versions, self.a, self.b)
        return self.inner.accumulate(state, with_delta(update, update.parts[MODEL_PART].tensors, scale))

    def ready(self, state: StrategyState) -> bool:
        """True once ``buffer_size`` updates are in."""
        return state.summed >= self.buffer_size
