"""The whole suite as one class: derive from it in a test file and say which strategy is meant.

    class TestMine(StrategySuite):
        @pytest.fixture
        def section(self):
            return {"factory": "my_package.mine:Mine", "args": {"decay": 0.9}}

What an algorithm may be excused from follows from its ``traits`` and ``needs_all``, never from its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from fl_core.rng import SeededNoise
from simulation.conformance.client_half import ClientHalf
from simulation.conformance.data import travelling
from simulation.conformance.fit import Fit
from simulation.conformance.server_half import ServerHalf
from strategies.base import Strategy
from strategies.central.mechanism import InMemory
from strategies.central.user_level import UserLevel
from strategies.registry import build_strategy


class StrategySuite(ServerHalf, ClientHalf, Fit):
    """All that a strategy promises; a derived class has a fixture ``section``."""

    @pytest.fixture
    def strategy(self, section: Mapping[str, Any]) -> Strategy:
        """The strategy of ``section``, made anew for every test."""
        return make(section)


def make(section: Mapping[str, Any]) -> Strategy:
    """The strategy of a config's section; one with noise at the server has it from named seeds."""
    strategy = build_strategy(section.get("name"), section.get("factory"), section.get("args") or {})
    if isinstance(strategy, UserLevel):
        noise = partial(SeededNoise, 7, "conformance", client_id="server")
        return strategy.bound_to(InMemory(0.5, strategy.parts(travelling(strategy)), noise))
    return strategy
