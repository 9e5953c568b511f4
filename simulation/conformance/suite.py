"""The whole suite as one class: derive from it in a test file and say which strategy is meant.

    class TestMine(StrategySuite):
        @pytest.fixture
        def section(self):
            return {"factory": "my_package.mine:Mine", "args": {"decay": 0.9}}

What an algorithm may be excused from follows from its ``traits`` and ``needs_all``, never from its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from simulation.conformance.client_half import ClientHalf
from simulation.conformance.fit import Fit
from simulation.conformance.server_half import ServerHalf
from simulation.conformance.subject import make
from strategies.base import Strategy


class StrategySuite(ServerHalf, ClientHalf, Fit):
    """All that a strategy promises; a derived class has a fixture ``section``."""

    @pytest.fixture
    def strategy(self, section: Mapping[str, Any]) -> Strategy:
        """The strategy of ``section``, made anew for every test."""
        return make(section)
