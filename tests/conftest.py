"""What all tests have in common."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_is_loaded_is_not_searched_for_garbage() -> None:
    """Flower's QFedAvg and Bulyan collect garbage for every reply: seconds each, with all that tests have loaded."""
    gc.freeze()
