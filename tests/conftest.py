"""What all tests have in common."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_is_loaded_is_not_searched_for_garbage() -> None:
    """Flower's QFedAvg and Bulyan collect garbage for every reply: seconds each, with all that tests have loaded."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard_again() -> Iterator[None]:
    """A command that was interrupted hears no more Ctrl-C, for its process ends; here that process goes on."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
