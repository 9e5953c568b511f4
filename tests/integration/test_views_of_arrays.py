"""Views that torch itself does not take train the very same model as a plain copy of them, on every side of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

import fl_core.data.datasets
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import run


def turned(part: Examples | None, copied: bool) -> Examples | None:
    """The part back to front in time and in order, as views or as plain arrays."""
    if part is None:
        return None
    x, y = np.flip(part.x, (0, 2)), part.y[::-1]
    return Examples(x.copy(), y.copy()) if copied else Examples(x, y)


def federation(copied: bool) -> Federation:
    whole = toy.data()
    clients = {
        name: ClientData(turned(client.train, copied), turned(client.test, copied))  # type: ignore[arg-type]
        for name, client in whole.clients.items()
    }
    return replace(whole, clients=clients, test=turned(whole.test, copied), public=turned(whole.public, copied))


@pytest.mark.parametrize("ranges", ["fixed", "public"])
def test_flipped_views_give_the_model_of_their_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: str
) -> None:
    found = []
    for copied in (False, True):
        monkeypatch.setitem(fl_core.data.datasets.DATASETS, "turned", lambda copied=copied: federation(copied))
        out = tmp_path / str(copied)
        data = {"factory": None, "name": "turned"}
        config = toy.config(out, run={"rounds": 1}, data=data, quant={"ranges": ranges})
        checkpoint = load_checkpoint(run(config) / "checkpoint")
        assert checkpoint is not None
        found.append(digest(checkpoint.state.model))
    assert found[0] == found[1]
