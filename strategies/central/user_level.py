"""What every kind of user-level privacy at the server shares: clip each client, add up, make noisy, step.

The sum of the updates, each clipped to ``clip_norm`` over all its parts together and each with weight 1, moves by at
most ``clip_norm`` when one client is added or taken away. It is made noisy and divided by ``expected_clients``, a
public number; the step of the inner strategy, and all that follows, is post-processing. The number of updates that
came decides nothing: a round without any releases noise.

It takes a server that is trusted with the updates themselves. What the clients promise their owners with per-example
DP is another guarantee, with another ledger; both hold at once.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

from fl_core.errors import PrivacyError
from fl_core.privacy.events import PrivacyEvent
from fl_core.rng import BoolArray, NoiseSource
from fl_core.tree import FixedPointSum, zeros_like
from fl_core.types import ClientUpdate, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait, stepped_by
from strategies.central.clipping import clip_jointly
from strategies.central.mechanism import Mechanism
from strategies.wrapper import Wrapper, sums_plainly

REFUSED_INSIDE: Mapping[Trait, str] = {
    "asynchronous": (
        "the accountant assumes cohorts drawn by the server; in a buffer the quick clients stand more often"
    ),
    "robust": "how far one client can move a robust rule is not known, so no noise is known to be enough",
    "central_dp": "noise for whole clients is added once",
    "uses_losses": "losses weigh the sum, so one client moves it by more than its clipped update",
}
"""What an algorithm may not do with noise for whole clients, and why."""

Self = TypeVar("Self", bound="UserLevel")


@dataclass(frozen=True, kw_only=True)
class UserLevel(Wrapper):
    """Noise at the server around an inner strategy whose means are plain sums.

    Args:
        epsilon: budget of the whole run for one client.
        expected_clients: the public divisor of the noisy sum: how many clients a round counts on.
        clip_norm: largest norm of one client's update, all parts together.
        delta: with epsilon; far below one over the number of clients.
        accountant: rdp or pld.
    """

    traits: ClassVar[frozenset[Trait]] = frozenset({"central_dp"})
    mechanism: ClassVar[Mechanism | None] = None
    """Set by ``bound_to`` on a strategy that runs; a strategy from a config has none."""
    slot: ClassVar[str]
    """Name of the wrapper's own slot."""

    epsilon: float
    expected_clients: int
    clip_norm: float = 1.0
    delta: float = 1e-5
    accountant: Literal["rdp", "pld"] = "rdp"

    def __post_init__(self) -> None:
        require("epsilon", self.epsilon > 0, "above 0", self.epsilon)
        require("expected_clients", self.expected_clients >= 1, "at least 1", self.expected_clients)
        require("clip_norm", self.clip_norm > 0, "above 0", self.clip_norm)
        few = self.delta * self.expected_clients < 1
        require("delta", self.delta > 0 and few, "above 0, below 1/expected_clients", self.delta)
        require("accountant", self.accountant in ("rdp", "pld"), "rdp or pld", self.accountant)
        _check_inner(self.inner)
        super().__post_init__()

    # What the kinds differ in.

    @abstractmethod
    def calibrate(self, rounds: int) -> float:
        """The least noise multiplier with which ``rounds`` rounds stay within epsilon."""

    @abstractmethod
    def takes_part(self, clients: Sequence[str], round: int, noise: NoiseSource) -> BoolArray:
        """Who of ``clients`` is asked in ``round``, bool [clients]: just as the accounting assumes."""

    @abstractmethod
    def spends(self, round: int, noise_multiplier: float) -> tuple[PrivacyEvent, ...]:
        """What ``round`` costs; empty where an earlier round has paid for it."""

    @abstractmethod
    def own_slot(self, parts: Mapping[str, Tensors]) -> Tensors:
        """The wrapper's own slot before the first round."""

    @abstractmethod
    def make(
        self, state: StrategyState, shapes: Mapping[str, Tensors], noise_multiplier: float, noise: NoiseSource
    ) -> Tensors:
        """The release of the open round, flat by name: the one place that sees exact sums."""

    @abstractmethod
    def read(
        self, state: StrategyState, shapes: Mapping[str, Tensors], released: Tensors
    ) -> tuple[dict[str, Tensors], Tensors]:
        """The noisy means by part, and the own slot after the round; both from the release and public facts."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the events say of this kind in addition to the budget: plain values."""

    # What they share.

    def bound_to(self: Self, mechanism: Mechanism) -> Self:
        """A copy of this strategy that releases through ``mechanism``, and so can finish rounds."""
        running = copy.copy(self)
        object.__setattr__(running, "mechanism", mechanism)
        return running

    def current_clip_norm(self, state: StrategyState) -> float:
        """The clip norm of the open round."""
        return self.clip_norm

    def init(self, model: Tensors) -> StrategyState:
        """The state of ``inner`` before the first round, and the own slot."""
        state = self.inner.init(model)
        own = self.own_slot(self.parts(model))
        return replace(state, slots={**state.slots, self.slot: own}) if own else state

    def broadcast(self, state: StrategyState) -> Mapping[str, Tensors]:
        """What ``inner`` sends to every client with the model; the own slot stays at the server."""
        return self.inner.broadcast(self._inner_state(state))

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        """Add the clipped parts with weight 1, whatever weight the update claims."""
        parts = {name: part.tensors for name, part in update.parts.items()}
        sums = dict(state.sums)
        for name, tensors in clip_jointly(parts, self.current_clip_norm(state)).items():
            sums[name] = sums.get(name, FixedPointSum()).add(tensors, 1)
        return replace(state, sums=sums)

    def finish(self, state: StrategyState) -> StrategyState:
        """Release the round, once, and let the inner strategy step.

        Raises:
            PrivacyError: the strategy is not bound to a mechanism.
            BudgetSpentError: the budget does not cover the round.
        """
        mechanism = self.mechanism
        if mechanism is None:
            raise PrivacyError(
                f"{type(self).__name__}: expected a mechanism with a ledger and a source of noise, got none: it runs "
                "in Stonecrop's round loop, or after bound_to(...)"
            )
        shapes, sigma, number = mechanism.shapes, mechanism.noise_multiplier, state.version + 1
        released = mechanism.release(
            number, self.spends(number, sigma), lambda noise: self.make(state, shapes, sigma, noise)
        )
        means, own = self.read(state, shapes, released)
        # What stays at home moves by nothing here.
        means[MODEL_PART] = {**zeros_like(state.model), **means[MODEL_PART]}
        stepped = stepped_by(self.inner, self._inner_state(state), means)
        slots = {**stepped.slots, self.slot: own} if own else stepped.slots
        return replace(stepped, version=number, slots=slots, sums={}, updates=())

    def _inner_state(self, state: StrategyState) -> StrategyState:
        """What the inner strategy may look at: instead of how many clients came, the public number."""
        slots = {name: slot for name, slot in state.slots.items() if name != self.slot}
        counted = {MODEL_PART: FixedPointSum(count=self.expected_clients, weight=self.expected_clients)}
        return replace(state, slots=slots, sums=counted, updates=())


def require(name: str, ok: bool, expected: str, got: object) -> None:
    """Refuse the hyperparameter ``name`` unless ``ok``.

    Raises:
        ValueError: says what was expected and what came.
    """
    if not ok:
        raise ValueError(f"strategy.args.{name}: expected {expected}, got {got!r}")


def _check_inner(inner: Strategy) -> None:
    """Refuse an inner strategy that makes no plain running sums: their sensitivity alone is accounted for.

    Raises:
        ValueError: names the inner strategy and why it cannot be wrapped.
    """
    who = f"strategy.args.inner: {type(inner).__name__}"
    for trait in sorted(inner.traits & REFUSED_INSIDE.keys()):
        raise ValueError(f"{who} under noise for whole clients: {REFUSED_INSIDE[trait]}")
    if not sums_plainly(inner):
        raise ValueError(f"{who} adds updates up in its own way, so its sensitivity to one client is not known")
