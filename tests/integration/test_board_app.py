"""The ClientApp as a board runs it, over the socket of a real trainer: own policy, own ledger, secret noise; driven
by the same server as a simulation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message

from fl_client.app import app
from fl_core.errors import NoUpdateError
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import RunLog, read_events
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.loop import run_rounds
from simulation.engines.in_process import InProcessGrid, nodes_of
from support.boards import CLIENT, make_home, trainer_process


def answer(socket: Path, message: Message, context: Context) -> Message:
    context.node_config["trainer-socket"] = str(socket)
    return app(message, context)


def run(tmp_path: Path, socket: Path) -> list[dict[str, object]]:
    config = toy.config(tmp_path / "runs", privacy={"epsilon": 8.0}, run={"rounds": 2}, round={"deadline_s": 60})
    run_dir = tmp_path / "server"
    log = RunLog(run_dir, config.run.name)
    try:
        grid = InProcessGrid(nodes_of([CLIENT]), partial(answer, socket))
        run_rounds(FlowerExchange(grid), Setup.of(config, toy.data()), run_dir, log)
    finally:
        log.close()
    return [dict(event) for event in read_events(run_dir)]


def test_a_board_trains_with_secret_noise_and_says_that_it_is_real(tmp_path):
    home = make_home(tmp_path / "board")
    with trainer_process(home):
        events = run(tmp_path, home / "run" / "trainer.sock")
    assert [event["client_id"] for event in events if event["kind"] == "client_finished"] == [CLIENT, CLIENT]
    started = next(event for event in events if event["kind"] == "run_started")
    assert started["privacy"]["simulated"] is False
    assert not any(event["kind"] in ("client_trained", "client_evaluated") for event in events)
    ledger = Ledger(home / "ledger.sqlite")
    assert 0 < ledger.spent(CLIENT, 1e-5) <= 8.0
    ledger.close()


def test_what_a_board_does_not_allow_reaches_the_server_as_a_refusal_with_its_reason(tmp_path):
    home = make_home(tmp_path / "board", factories=[])
    reason = "'toy:model' is not among the factories"
    with trainer_process(home), pytest.raises(NoUpdateError, match=reason):
        run(tmp_path, home / "run" / "trainer.sock")  # nobody else is there: it would refuse the next round too
    refused = [event for event in read_events(tmp_path / "server") if event["kind"] == "client_refused"]
    assert [reason in str(event["reason"]) for event in refused] == [True]
