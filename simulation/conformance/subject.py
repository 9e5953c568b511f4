"""The strategy under test: how it is made from a config's section, and what its state is to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fl_core.rng import SeededNoise
from fl_core.tree import digest
from simulation.conformance.data import travelling
from strategies.base import Strategy, StrategyState
from strategies.central.mechanism import InMemory
from strategies.central.user_level import UserLevel
from strategies.registry import build_strategy


def make(section: Mapping[str, Any]) -> Strategy:
    """The strategy of a config's section; one with noise at the server has it from named seeds."""
    strategy = build_strategy(section.get("name"), section.get("factory"), section.get("args") or {})
    if isinstance(strategy, UserLevel):
        noise = partial(SeededNoise, 7, "conformance", client_id="server")
        return strategy.bound_to(InMemory(0.5, strategy.parts(travelling(strategy)), noise))
    return strategy


def bits(state: StrategyState) -> tuple[str, ...]:
    """SHA-256 of a state's model and of each of its slots: two states with the same are equal to the bit."""
    return digest(state.model), *(f"{name}:{digest(state.slots[name])}" for name in sorted(state.slots))
