"""The short form of the fault runs: what is killed or harmed costs no round, and nothing is counted wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from shared.fault_outcomes import Losses, read_outcomes

from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "faults",
    [
        ("ServerApp", "gateway", "SuperNode", "trainer"),
        ("stall", "dropping-forwarder", "full-disk", "clock", "nan"),
    ],
    ids=["kills", "others"],
)
def test_faults_cost_no_round_and_nothing_is_counted_wrong(faults: tuple[str, ...], tmp_path: Path) -> None:
    only = [word for name in faults for word in ("--only", name)]
    command = [sys.executable, "benchmarks/faults.py", "--kills", str(len(faults)), *only, "--folder", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    outcomes = read_outcomes(tmp_path)
    assert [outcome.fault for outcome in outcomes] == list(faults)
    assert all(outcome.recovery_s is not None and outcome.losses == Losses() for outcome in outcomes)
    running = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert [line for line in running if str(tmp_path) in line] == []
