"""A federation of real processes goes on, and counts every update once, whatever of the server is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy

from fl_core.config import Config, load_config, to_yaml
from fl_core.privacy.ledger import Ledger
from fl_core.run_folder import run_is_locked
from fl_core.runlog import Event, read_events
from fl_core.tree import digest
from fl_server.deploy.operations import want_run
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.run import run as simulate
from support import fleet
from support.fleet import LiveServer, eventually
from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
CLIENTS = ("client-0", "client-1", "client-2")
ROUNDS = 4
DATA = {"factory": "toy:data"}
LIMIT_S = 300
"""Some times what each takes on a machine that does nothing else."""


@contextmanager
def federation(
    folder: Path, config: Config | None = None, device: Mapping[str, Any] = {"data": DATA}
) -> Iterator[LiveServer]:
    home = fleet.new_home(folder / "server")
    (folder / "toy.yaml").write_text(to_yaml(config or private(folder)))
    with fleet.server_up(home) as server:
        folders = {client: folder / client for client in CLIENTS}
        with fleet.devices(server, folders, device):
            eventually(lambda: _online(server) == len(CLIENTS), LIMIT_S, "devices")
            yield server


def private(out: Path, **sections: object) -> Config:
    """The toy config under DP, in which a round waits for all devices."""
    sections = {"privacy": {"epsilon": 8.0}, "run": {"rounds": ROUNDS}, "round": {"min_clients": 3}, **sections}
    return toy.config(out, **sections)


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


@pytest.mark.parametrize(
    "victim", ["flwr-serverapp", "fl_server.deploy.superlink", "nginx", "fl_server.gateway.service"]
)
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
    (tmp_path / "toy.yaml").write_text(to_yaml(private(tmp_path)))
    with ExitStack() as boards:
        with fleet.server_up(home) as server:
            folders = {client: tmp_path / client for client in CLIENTS}
            boards.enter_context(fleet.devices(server, folders, {"data": DATA}))
            eventually(lambda: _online(server) == len(CLIENTS), LIMIT_S, "devices")
            run_dir = start(server, tmp_path)
            eventually(lambda: count(server, "round_finished"), LIMIT_S, "the first round")
            below = server.up.children(recursive=True)
            server.up.kill()
            server.up.wait(10)
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
        assert not run_is_locked(run_dir)
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


def test_a_simulation_and_real_processes_with_the_same_named_seeds_end_with_the_same_bits(tmp_path):
    data = {**DATA, "args": {"clients": len(CLIENTS)}}
    config = private(tmp_path / "simulated", data=data, strategy={"name": "fedadam"}, export={"formats": []})
    simulated = simulate(config)
    device = {"data": {**data, "seed": config.run.seed}, "simulated": True}
    with federation(tmp_path, config, device) as server:
        deployed = start(server, tmp_path)
        eventually(lambda: (deployed / "report.html").is_file(), LIMIT_S, "the end of the run")
        started = next(event for event in events(server) if event["kind"] == "run_started")
        assert started["privacy"]["simulated"] is True
        check_events(server, ROUNDS)
    assert bits_of(simulated) == bits_of(deployed)


def bits_of(run_dir: Path) -> dict[str, str]:
    """A digest of the final model, and of each thing that the strategy remembers."""
    end = load_checkpoint(run_dir / "checkpoint")
    assert end is not None
    assert end.rounds_done == ROUNDS
    return {"model": digest(end.state.model)} | {name: digest(slot) for name, slot in end.state.slots.items()}


def test_a_run_that_cannot_work_says_all_that_is_wrong_and_is_not_tried_again(tmp_path):
    home = fleet.new_home(tmp_path / "server")
    (tmp_path / "bad.yaml").write_text(to_yaml(toy.config(tmp_path)).replace("toy:model", "toy:nothing"))
    wrong = ("round.quorum=3", "strategy.name=fedavgg")
    refused = fleet.command(home, "run", str(tmp_path / "bad.yaml"), *wrong, "--server", str(home.folder))
    assert refused.returncode == 2
    for each in ("'nothing'", "round.quorum", "fedavgg"):
        assert each in refused.stderr
    assert all(line.startswith("error: ") for line in refused.stderr.splitlines())
    assert "Traceback" not in refused.stderr
    assert home.wanted() is None


def test_make_federation_trains_through_the_gateway_and_leaves_nothing_running(tmp_path):
    words = ["-m", "simulation.local_fleet", "--folder", str(tmp_path / "all"), "run.rounds=1", "export.formats=[]"]
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
