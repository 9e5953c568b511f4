"""The suite for the strategy of pytest's command line."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.conformance.suite import StrategySuite


class TestStrategy(StrategySuite):
    """Whatever ``--stonecrop-strategy`` names."""

    @pytest.fixture
    def section(self, stonecrop_section: dict[str, Any]) -> dict[str, Any]:
        """The section ``strategy`` of a config."""
        return stonecrop_section
