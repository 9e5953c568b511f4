"""An input range without zero runs, and its user hears which share of the grid the inputs use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import toy

from fl_server.plan.setup import Setup


@pytest.mark.parametrize(
    ("bounds", "share"), [((-1.0, 1.0), None), ((0.0, 1.0), None), ((5.0, 10.0), "50%"), ((-10.0, -9.0), "10%")]
)
def test_the_share_of_the_grid_is_told(tmp_path: Path, bounds: tuple[float, float], share: str | None) -> None:
    federation = replace(toy.data(), input_range=bounds).check()
    found = [each.text for each in Setup.of(toy.config(tmp_path), federation).findings if each.topic == "input range"]
    assert len(found) == (share is not None)
    assert all(f"they use {share} of its steps" in text for text in found)
