"""A board whose noise anyone can draw again gives no epsilon, and nothing that is said of it or its run gives one."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message
from rich.console import Console

from fl_client.app import app
from fl_client.shell.socket_trainer import SocketTrainer
from fl_core.runlog import RunLog, read_events
from fl_server.deploy.status import status_tables
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.report.build import build_report
from fl_server.report.privacy_words import NOT_PRIVATE
from fl_server.report.summary import write_summary
from fl_server.report.tables import closing_table
from fl_server.rounds.loop import run_rounds
from fl_server.watch.live import RunProgress
from fl_server.watch.status import status_of
from simulation.engines.in_process import InProcessGrid, nodes_of
from support.boards import CLIENT, make_home, trainer_process


def answer(sockets: dict[int, Path], message: Message, context: Context) -> Message:
    context.node_config["trainer-socket"] = str(sockets[context.node_id])
    return app(message, context)


def run(folder: Path, homes: list[Path]) -> Path:
    """Two rounds over the boards of these homes, as a server has them."""
    config = toy.config(
        folder / "runs",
        privacy={"epsilon": 8.0},
        run={"rounds": 2},
        round={"deadline_s": 60, "min_clients": len(homes)},
    )
    run_dir = folder / "server"
    log = RunLog(run_dir, config.run.name)
    nodes = nodes_of([home.name for home in homes])
    sockets = {node_id: home / "run" / "trainer.sock" for node_id, home in zip(nodes, homes, strict=True)}
    try:
        exchange = FlowerExchange(InProcessGrid(nodes, partial(answer, sockets)))
        run_rounds(exchange, Setup.of(config, toy.data()), run_dir, log)
    finally:
        log.close()
    write_summary(run_dir, peak_rss_mb=1.0)
    build_report(run_dir)
    return run_dir


def as_text(*tables: object) -> str:
    console = Console(width=200, file=StringIO())
    with console.capture() as said:
        console.print(*tables)
    return said.get()


def check_nothing_is_promised(run_dir: Path) -> None:
    events = list(read_events(run_dir))
    summary = json.loads((run_dir / "summary.json").read_text())
    assert [event["epsilon_max"] for event in events if event["kind"] == "round_finished"] == [None, None]
    assert summary["privacy"]["epsilon_max"] is None
    assert (summary["privacy"]["simulated"], summary["privacy"]["named_seeds"]) == (True, True)
    for path in run_dir.glob("rounds/*/*/artifact.json"):
        assert json.loads(path.read_text())["origin"]["epsilon"] is None
    status = asdict(status_of(run_dir))
    assert (status["epsilon_max"], status["named_seeds"]) == (None, True)
    progress = RunProgress("run")
    for event in events:
        progress.update(event)
    unknown = dict.fromkeys(("devices", "devices_trouble", "trouble", "wanted", "failure"))
    none = {name: {} for name in ("processes", "devices_waiting", "identities_used_twice")}
    described = {"up": True, "run": status, **none, **unknown}
    for said in (as_text(closing_table([summary])), as_text(*status_tables(described)), progress.line()):
        assert NOT_PRIVATE in said
        assert "at delta" not in said
    page = (run_dir / "report.html").read_text()
    assert NOT_PRIVATE.capitalize() in page
    assert "e^epsilon" not in page
    assert "ε " not in page


def test_a_run_on_a_board_with_named_seeds_promises_nothing(tmp_path):
    home = make_home(tmp_path / CLIENT, simulated=True)
    with trainer_process(home):
        run_dir = run(tmp_path, [home])
        told = SocketTrainer(home / "run" / "trainer.sock").status()
    assert told["tasks"] == 2
    assert (told["privacy"]["epsilon"], told["privacy"]["simulated"]) == (None, True)
    started, *_ = read_events(run_dir)
    assert started["privacy"]["named_seeds"] == [CLIENT]
    updates = [event for event in read_events(run_dir) if event["kind"] == "client_finished"]
    assert [event["epsilon"] for event in updates] == [None, None]
    check_nothing_is_promised(run_dir)


def test_one_board_with_named_seeds_takes_the_promise_from_the_whole_run(tmp_path):
    named = make_home(tmp_path / "client-1", client_id="client-1", simulated=True)
    secret = make_home(tmp_path / CLIENT)
    with trainer_process(named), trainer_process(secret):
        run_dir = run(tmp_path, [named, secret])
    spent = {e["client_id"]: e["epsilon"] for e in read_events(run_dir) if e["kind"] == "client_finished"}
    assert spent["client-1"] is None
    assert spent[CLIENT] == pytest.approx(8.0, abs=1.0)
    assert status_of(run_dir).clients[CLIENT].epsilon == spent[CLIENT]  # its own owner's promise stands
    check_nothing_is_promised(run_dir)
