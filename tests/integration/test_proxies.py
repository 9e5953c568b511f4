"""Proxy variables are for what lies outside: a whole federation works on loopback beside a proxy that is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.gateway import needs_nginx

ROOT = Path(__file__).resolve().parents[2]
DEAD = "127.0.0.1:9"
PROXIES = {
    "http_proxy": f"http://{DEAD}",
    "HTTPS_PROXY": DEAD,
    "https_proxy": f"http://{DEAD}",
    "all_proxy": f"socks5://{DEAD}",
    "no_proxy": "intranet.example",
}


@pytest.mark.slow
@pytest.mark.xdist_group("real processes")
@needs_nginx
def test_a_federation_runs_where_a_dead_proxy_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    command = [sys.executable, "-m", "simulation.local_fleet", "--people", "1", "--folder", str(folder)]
    done = subprocess.run(
        [*command, "run.rounds=1"], cwd=ROOT, capture_output=True, text=True, timeout=400,
        env={**os.environ, **PROXIES, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((Path(done.stdout.strip()) / "summary.json").read_text())
    assert summary["rounds_done"] == 1
    assert "all_proxy: expected an HTTP proxy, got one of SOCKS; it is left out" in (folder / "server.log").read_text()
