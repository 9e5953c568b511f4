"""A federation of real processes goes on, and counts every update once, whatever of the server is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import toy

from fl_core.config import load_config, to_yaml
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import Event, read_events
from fl_server.deploy.director import is_locked
from fl_server.deploy.orders import want_run
from support import fleet
from support.fleet import LiveServer, eventually

pytestmark = pytest.mark.slow
CLIENTS = ("client-0", "client-1", "client-2")
ROUNDS = 4
LIMIT_S = 300
"""Some times what each takes on a machine that does nothing else."""


@contextmanager
def federation(folder: Path, rounds: int = ROUNDS) -> Iterator[LiveServer]:
    home = fleet.new_home(folder / "server")
    config = toy.config(folder, privacy={"epsilon": 8.0}, run={"rounds": rounds})
    (folder / "toy.yaml").write_text(to_yaml(config))
    with fleet.server_up(home) as server:
        folders = {client: folder / client for client in CLIENTS}
        with fleet.devices(server, folders, {"factory": "toy:data"}):
            eventually(lambda: _online(server) == len(CLIENTS), LIMIT_S, "devices")
            yield server


def _online(server: LiveServer) -> int:
    log = (server.home.logs / "superlink.log").read_text()
    return log.count("[Fleet.ActivateNode] Activated")


def events(server: LiveServer) -> list[Event]:
    folder = server.home.runs / "toy"
    return list(read_events(folder)) if (folder / "events.jsonl").is_file() else []


def count(server: LiveServer, kind: str) -> int:
    return sum(event["kind"] == kind for event in events(server))


def check_ledgers(folder: Path, rounds: int) -> None:
    """Each device reserved once for each round: asked twice, it resent what it had."""
    for client in CLIENTS:
        ledger = Ledger(folder / client / "ledger.sqlite")
        ledger.verify()
        reserved = [entry for entry in ledger.history(client) if entry.kind == "reserve"]
        assert len(reserved) == rounds, client
        ledger.close()


def check_events(server: LiveServer, rounds: int) -> None:
    """Every round has each client once and the sum of a round is of them alone."""
    log = events(server)
    for number in range(1, rounds + 1):
        finished = [e["client_id"] for e in log if e["kind"] == "client_finished" and e["round"] == number]
        assert sorted(finished) == list(CLIENTS)
    rounds_finished = [e for e in log if e["kind"] == "round_finished"]
    assert [(e["round"], e["accepted"]) for e in rounds_finished] == [(n, len(CLIENTS)) for n in range(1, rounds + 1)]


def start(server: LiveServer, folder: Path) -> Path:
    return want_run(server.home, load_config(folder / "toy.yaml"), overwrite=False)


@pytest.mark.parametrize("victim", ["flwr-serverapp", "flower-superlink", "nginx", "fl_server.gateway.service"])
def test_a_killed_process_costs_no_round_and_counts_nothing_twice(tmp_path, victim):
    with federation(tmp_path) as server:
        run_dir = start(server, tmp_path)
        # One client's update of round 2 is in, so the open round holds finished and unfinished tasks.
        eventually(
            lambda: sum(e["round"] == 2 and e["kind"] == "client_finished" for e in events(server)), LIMIT_S, "round"
        )
        server.find(victim).kill()
        eventually(lambda: (run_dir / "report.html").is_file(), LIMIT_S, f"the end after a kill of {victim}")
        check_events(server, ROUNDS)
        summary = json.loads((run_dir / "summary.json").read_text())
        assert summary["rounds_done"] == ROUNDS
    check_ledgers(tmp_path, ROUNDS)


def test_a_killed_server_goes_on_when_it_is_started_again(tmp_path):
    home = fleet.new_home(tmp_path / "server")
    (tmp_path / "toy.yaml").write_text(to_yaml(toy.config(tmp_path, privacy={"epsilon": 8.0}, run={"rounds": ROUNDS})))
    with ExitStack() as boards:
        with fleet.server_up(home) as server:
            folders = {client: tmp_path / client for client in CLIENTS}
            boards.enter_context(fleet.devices(server, folders, {"factory": "toy:data"}))
            eventually(lambda: _online(server) == len(CLIENTS), LIMIT_S, "devices")
            run_dir = start(server, tmp_path)
            eventually(lambda: count(server, "round_finished"), LIMIT_S, "the first round")
            below = server.up.children(recursive=True)
            server.up.kill()
            (home.logs / "up.log").unlink()
        with fleet.server_up(home) as server:
            assert not [process for process in below if fleet.is_alive(process)]
            eventually(lambda: (run_dir / "report.html").is_file(), LIMIT_S, "the end after a kill of the server")
            check_events(server, ROUNDS)
    check_ledgers(tmp_path, ROUNDS)


def test_a_stopped_run_is_resumed_by_command_and_status_tells_all_of_it(tmp_path):
    with federation(tmp_path) as server:
        run_dir = start(server, tmp_path)
        eventually(lambda: count(server, "round_finished"), LIMIT_S, "the first round")
        folder = str(server.home.folder)
        stopped = fleet.command(server.home, "stop", folder, "--json")
        assert json.loads(stopped.stdout) == {"stopped": "toy"}
        assert not is_locked(run_dir)
        again = fleet.command(server.home, "resume", folder, "--json", timeout=LIMIT_S)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["run"] == "toy"
        told = json.loads(fleet.command(server.home, "status", folder, "--json").stdout)
        assert (told["run"]["finished"], told["run"]["rounds_done"], told["wanted"]) == (True, ROUNDS, None)
        assert {client: state["updates"] for client, state in told["run"]["clients"].items()} == dict.fromkeys(
            CLIENTS, ROUNDS
        )
        assert all(process["ready"] for process in told["processes"].values())
        check_events(server, ROUNDS)
    check_ledgers(tmp_path, ROUNDS)


def test_a_run_that_cannot_work_ends_with_the_errors_exit_code_and_is_not_tried_again(tmp_path):
    home = fleet.new_home(tmp_path / "server")
    (tmp_path / "bad.yaml").write_text(to_yaml(toy.config(tmp_path)).replace("toy:model", "toy:nothing"))
    refused = fleet.command(home, "run", str(tmp_path / "bad.yaml"), "--server", str(home.folder))
    assert refused.returncode == 2
    assert "toy:nothing" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert home.wanted() is None


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="nginx is not installed")
def test_make_federation_trains_through_the_gateway_and_leaves_nothing_running(tmp_path):
    words = ["-m", "simulation.federation", "--folder", str(tmp_path / "all"), "run.rounds=1", "export.formats=[]"]
    done = subprocess.run(
        [sys.executable, *words], cwd=fleet.ROOT, capture_output=True, text=True, timeout=500,
        env=os.environ | {"PYTHONPATH": str(fleet.ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((Path(done.stdout.strip()) / "summary.json").read_text())
    assert (summary["rounds_done"], summary["clients"]) == (1, 3)
    assert summary["privacy"]["simulated"] is False
    running = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    left = [line for line in running if str(tmp_path) in line]
    assert left == []
