"""The strategy in a real run: server, Flower messages, trainer, ledger and checkpoint, on a small net of seven clients.

It must learn, and a run that is stopped after a round and resumed must end in the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from fl_core.config import Config
from fl_core.config.load import from_plain
from fl_core.runlog import Event, read_events
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.conformance.subject import bits, make

RUN_ROUNDS = 4


class Fit:
    """Checks on whole runs: the strategy learns, and a run that is resumed ends in the same bits."""

    def test_a_run_learns_and_resumes_bit_identically(self, section: Mapping[str, Any], tmp_path: Path) -> None:
        """Two runs of the same config, one of which is interrupted in the middle."""
        from simulation.run import resume, run

        straight = run(config_of(section, tmp_path / "straight"))
        events = list(read_events(straight))
        rounds = [event for event in events if event["kind"] == "round_finished"]
        assert len(rounds) == RUN_ROUNDS
        assert [event for event in events if event["kind"] in ("client_failed", "client_rejected")] == []
        if "central_dp" not in make(section).traits:  # seven clients drown in its noise
            started = next(event for event in events if event["kind"] == "run_started")
            assert _reached(events) > started["initial"]["accuracy_float"]
        with pytest.raises(KeyboardInterrupt):
            run(config_of(section, tmp_path / "stopped"), listeners=[_stop_in_the_middle])
        stopped = resume(tmp_path / "stopped" / "conformance")
        checkpoints = [load_checkpoint(folder / "checkpoint") for folder in (straight, stopped)]
        assert None not in checkpoints
        assert len({bits(checkpoint.state) for checkpoint in checkpoints if checkpoint is not None}) == 1


def _reached(events: Sequence[Event]) -> float:
    """The best accuracy of any round: of the clients' own models, on average, where a part of them stays at home."""
    rounds: dict[int, list[float]] = {}
    for event in events:
        if event["kind"] == "client_trained" and event["personal_score"] is not None:
            rounds.setdefault(event["round"], []).append(event["personal_score"])
    if rounds:
        return max(fmean(scores) for scores in rounds.values())
    return max(float(event["evaluation"]["accuracy_float"]) for event in events if event["kind"] == "round_finished")


def _stop_in_the_middle(event: Event) -> None:
    if event["kind"] == "client_finished" and event["round"] == RUN_ROUNDS // 2:
        raise KeyboardInterrupt


def config_of(section: Mapping[str, Any], out: Path) -> Config:
    """A config of four rounds on the suite's net and data, with the strategy of ``section``."""
    name = {"name": None} if "factory" in section else {}
    return from_plain({
        "run": {"name": "conformance", "rounds": RUN_ROUNDS, "seed": 7, "out": str(out)},
        "data": {"factory": "simulation.conformance.data:blobs"},
        "model": {"factory": "simulation.conformance.data:net"},
        "clients": {"batch_size": 8, "optimizer": {"learning_rate": 0.1}},
        "export": {"formats": []},
        "strategy": {**name, **section},
    })  # fmt: skip
