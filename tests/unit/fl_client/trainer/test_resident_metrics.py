"""The board's own figures: Prometheus text on loopback, right after each task, and counters that outlive restarts."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from fl_client.trainer.counters import TaskCounters
from fl_client.trainer.metrics import metrics_text, serve_metrics
from fl_core.errors import ConfigError

PRIVACY = {"epsilon": 1.5, "cap": 8.0, "delta": 1e-5, "simulated": False}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def figures(tally: TaskCounters) -> dict[str, object]:
    return {
        **tally.figures(),
        "open": 0,
        "privacy": PRIVACY,
        "processes": {"forwarder": (False, 3)},
        "server_trouble": None,
    }


def test_metrics_say_tasks_round_restarts_and_epsilon(tmp_path: Path):
    TaskCounters(tmp_path / "counts.json").finished("run", 1)
    tally = TaskCounters(tmp_path / "counts.json")
    tally.finished("run", 7)
    lines = metrics_text(lambda: figures(tally)).decode().splitlines()
    assert "stonecrop_trainer_tasks_total 2.0" in lines
    assert "stonecrop_trainer_last_round 7.0" in lines
    assert "stonecrop_trainer_starts_total 2.0" in lines
    assert 'stonecrop_epsilon_spent{delta="1e-05",simulated="false"} 1.5' in lines
    assert 'stonecrop_process_restarts_total{process="forwarder"} 3.0' in lines
    assert 'stonecrop_process_up{process="forwarder"} 0.0' in lines


def test_a_device_with_named_seeds_gives_no_epsilon(tmp_path: Path):
    named = {**PRIVACY, "epsilon": None, "simulated": True}
    text = metrics_text(lambda: {**figures(TaskCounters(tmp_path / "counts.json")), "privacy": named}).decode()
    assert "stonecrop_noise_is_secret 0.0" in text.splitlines()
    assert "stonecrop_epsilon_spent" not in text
    assert (
        "stonecrop_noise_is_secret 1.0"
        in metrics_text(lambda: figures(TaskCounters(tmp_path / "c"))).decode().splitlines()
    )


def test_pages_are_served_on_loopback_alone(tmp_path: Path):
    port, tally = free_port(), TaskCounters(tmp_path / "counts.json")
    with serve_metrics(port, lambda: figures(tally)):
        base = f"http://127.0.0.1:{port}"
        assert "stonecrop_trainer_uptime_seconds" in httpx.get(f"{base}/metrics", trust_env=False).text
        assert httpx.get(f"{base}/other", trust_env=False).status_code == 404
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", port))
        with pytest.raises(ConfigError, match=str(port)), serve_metrics(port, lambda: figures(tally)):
            pass


@pytest.mark.parametrize(
    ("processes", "answer"),
    [
        ({"trainer": (True, 0), "forwarder": (False, 3)}, (503, "forwarder does not run\n")),
        ({"trainer": (True, 0), "forwarder": (True, 3)}, (200, "ok\n")),
        ({}, (200, "ok\n")),
    ],
)
def test_a_board_is_healthy_while_all_of_its_processes_run(tmp_path: Path, processes, answer):
    port, tally = free_port(), TaskCounters(tmp_path / "counts.json")
    with serve_metrics(port, lambda: {**figures(tally), "processes": processes}):
        found = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
    assert (found.status_code, found.text) == answer


def test_a_full_disk_costs_no_task(tmp_path: Path):
    tally = TaskCounters(tmp_path / "file" / "counts.json")
    (tmp_path / "file" / "counts.json").unlink()
    (tmp_path / "file").rmdir()
    (tmp_path / "file").touch()  # nothing can be written below a file
    tally.finished("run", 3)
    assert tally.figures()["tasks"] == 1
