"""A client that trains and cannot score the new model: the round counts it, and the reason is kept."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import toy
from flwr.app import Context, Message

from fl_core.runlog import RunLog, read_events
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app

BROKEN = "client-2"


def test_the_score_that_is_missing_has_a_reason_and_the_others_are_pooled(tmp_path: Path) -> None:
    config = toy.config(tmp_path, run={"rounds": 1}, export={"formats": []})
    data = toy.data(test=0).check()
    app = partial(run_app, client_app(build_trainer(config, data, tmp_path)))

    def answer(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "evaluate" and context.node_config["client-id"] == BROKEN:
            raise ArithmeticError("no scores")
        return app(message, context)

    grid = InProcessGrid(nodes_of(data.clients), answer)
    with closing(RunLog(tmp_path, config.run.name)) as log:
        run_rounds(FlowerExchange(grid), Setup.of(config, data), tmp_path, log)
    events = list(read_events(tmp_path))
    unscored = [(event["client_id"], event["reason"]) for event in events if event["kind"] == "client_unscored"]
    (finished,) = [event for event in events if event["kind"] == "round_finished"]
    assert [client for client, _ in unscored] == [BROKEN]
    assert unscored[0][1].startswith("ArithmeticError: no scores (")
    assert finished["accepted"] == 4
    assert finished["evaluation"]["examples"] == 3 * 16
