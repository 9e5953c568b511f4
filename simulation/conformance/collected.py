"""The suite for the strategy of pytest's command line."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.conformance.suite import StrategySuite


class TestStrategy(StrategySuite):
    """The conformance suite, run for the strategy that ``--stonecrop-strategy`` names."""

    @pytest.fixture
    def section(self, stonecrop_section: dict[str, Any]) -> dict[str, Any]:
        """The section ``strategy`` of a config, made from the command line."""
        return stonecrop_section
