"""Every way to get activation ranges trains, exports and resumes; and spends what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from fl_core.privacy.ledger import Ledger
from fl_core.runlog import read_events
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import run


def federate(out: Path, ranges: str, dp: bool) -> Path:
    sections: dict[str, object] = {"privacy": {"epsilon": 8.0, "ranges_share": 0.1}} if dp else {}
    return run(toy.config(out, quant={"ranges": ranges}, **sections))


@pytest.mark.parametrize(
    ("ranges", "dp"),
    [("fixed", False), ("public", False), ("ema", False), ("learned", False), ("public", True), ("learned", True),
     ("dp_histogram", True)],
)  # fmt: skip
def test_each_kind_of_range_ends_in_a_proven_artefact_twice_the_same(ranges, dp, tmp_path):
    ends = []
    for name in ("one", "two"):
        run_dir = federate(tmp_path / name, ranges, dp)
        kinds = [event["kind"] for event in read_events(run_dir)]
        assert kinds.count("artifact_published") == 3
        assert kinds.count("client_finished") == 12
        checkpoint = load_checkpoint(run_dir / "checkpoint")
        assert checkpoint is not None
        ends.append((digest(checkpoint.state.model), checkpoint.facts))
    assert ends[0] == ends[1]


def test_ranges_under_dp_are_paid_for_and_fit_the_same_epsilon(tmp_path):
    run_dir = federate(tmp_path, "dp_histogram", dp=True)
    ledger = Ledger(run_dir / "clients" / "ledger.sqlite", simulated=True)
    for client in toy.data().clients:
        events = ledger.events(client)
        assert len(events) == 4  # one release of ranges, three rounds
        assert (events[0].sample_rate, events[0].steps) == (1.0, 1)
        assert 0 < ledger.spent(client, 1e-5) <= 8.0


def test_public_ranges_follow_the_model(tmp_path):
    run_dir = federate(tmp_path, "public", dp=False)
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    assert checkpoint is not None
    assert checkpoint.facts["ranges"]
    latest = checkpoint.facts["ranges"]
    previous = load_checkpoint_of_round(run_dir, 2)
    assert latest != previous


def load_checkpoint_of_round(run_dir: Path, rounds_done: int) -> object:
    (run_dir / "checkpoint" / "latest.safetensors").unlink()
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    assert checkpoint is not None
    assert checkpoint.rounds_done == rounds_done
    return checkpoint.facts["ranges"]


def test_clients_keep_an_artefact_of_their_own(tmp_path):
    from fl_core.export.artifact import replay

    run_dir = run(toy.config(tmp_path, export={"clients_export": True}))
    folders = sorted((run_dir / "clients").glob("*/onnx"))
    assert [folder.parent.name for folder in folders] == sorted(toy.data().clients)
    for folder in folders:
        replay(folder)
    assert len({(folder / "model.onnx").read_bytes() for folder in folders}) == len(folders)
