"""The short forms of the benchmarks of many nodes: they come back after storms, and the SuperLink stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
ROOT = Path(__file__).resolve().parents[2]


def run_benchmark(tmp_path: Path, *words: str) -> str:
    """One benchmark with its temporary folders under ``tmp_path``, to a good end; what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, *words, "--markdown"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    running = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert [line for line in running if str(tmp_path) in line] == []
    return done.stdout


def test_nodes_come_back_after_gateway_and_superlink_were_killed(tmp_path: Path) -> None:
    printed = run_benchmark(tmp_path, "benchmarks/many_nodes.py", "--nodes", "20", "--minutes", "0.5", "--swap-s", "10")
    assert "| gateway |" in printed
    assert "| superlink |" in printed


def test_a_superlink_does_not_grow_with_rounds(tmp_path: Path) -> None:
    run_benchmark(tmp_path, "benchmarks/superlink_memory.py", "--rounds", "14")
