"""A publication that fails ends the run at the next checkpoint, whether or not that round makes artefacts."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from fl_server.results.publisher import Publisher


def test_a_failure_is_told_before_another_round_is_handed_over():
    failed = threading.Event()

    def publish(publication):
        failed.set()
        raise OSError("no space left on device")

    publisher = Publisher(publish)
    publisher.check()
    publisher.submit(SimpleNamespace(round=1))
    assert failed.wait(10)
    with pytest.raises(OSError, match="no space"):
        publisher.finish()
    with pytest.raises(OSError, match="no space"):
        publisher.check()
    assert publisher.unpublished == {1}
