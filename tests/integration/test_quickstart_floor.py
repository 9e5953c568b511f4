"""The quickstart as it is shipped: long enough, far above its untrained model, not below its floors, and verified.

The floors stand four standard deviations below the mean of five seeds of benchmarks/accuracy.py, in whole points.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.config import load_config
from fl_core.runlog import read_events
from simulation.run import run

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
OWN_FLOOR = 0.83
"""Mean over clients on their own held-out parts; measured 0.881, standard deviation 0.011."""
UNSEEN_FLOOR = 0.74
"""People who trained nowhere; measured 0.806, standard deviation 0.014."""


@pytest.mark.slow
def test_the_quickstart_reaches_its_floors_with_a_verified_artefact(tmp_path: Path) -> None:
    run_dir = run(load_config(QUICKSTART, ["run.companion=null"]), out=tmp_path)
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    published = [event for event in read_events(run_dir) if event["kind"] == "artifact_published"]
    assert summary["rounds_done"] >= 15
    assert summary["accuracy_int8"] >= summary["initial_accuracy"] + 0.20
    assert summary["clients_accuracy_mean"] >= OWN_FLOOR
    assert summary["accuracy_int8"] >= UNSEEN_FLOOR
    assert summary["privacy"]["epsilon_max"] <= 8.0
    assert len(published) == summary["rounds_done"]
    assert summary["artifacts"][-1]["path"].startswith(f"rounds/{summary['rounds_done']:04d}/")
    for event in published:
        assert event["parity"]["top1_agreement"] >= 0.99
        assert event["parity"]["max_lsb"] <= 1
        assert event["kernels"]["float_kernels"] == {}
    assert (run_dir / summary["artifacts"][-1]["path"]).is_file()
    assert "<html" in (run_dir / "report.html").read_text(encoding="utf-8")
