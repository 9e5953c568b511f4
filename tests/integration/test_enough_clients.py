"""A run that lacks clients does not start, and says how many there are."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import toy

from fl_core.errors import ConfigError, RoundError
from fl_core.questions import TRAIN
from fl_core.runlog import Event, RunLog, read_events
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app
from simulation.fleet.clock import VirtualClock
from simulation.run import run

ASYNCHRONOUS = {"strategy": {"name": "fedbuff", "args": {"buffer_size": 2}}}


@pytest.mark.parametrize("sections", [{}, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_no_round_starts_with_fewer_clients_than_it_asks_for(tmp_path: Path, sections: dict[str, object]) -> None:
    config = toy.config(tmp_path, round={"min_clients": 5}, **sections)
    with pytest.raises(RoundError, match="expected at least 5 clients within 60 s, got 4"):
        run(config)
    assert not (tmp_path / "toy" / "checkpoint").exists()


def test_enough_clients_make_a_round(tmp_path: Path) -> None:
    config = toy.config(tmp_path, round={"min_clients": 4}, run={"rounds": 1}, export={"formats": []})
    ended = [event for event in read_events(run(config)) if event["kind"] == "round_finished"]
    assert [event["accepted"] for event in ended] == [4]


class Leaving(InProcessGrid):
    """Nodes that are all gone for good at some moment."""

    gone = False

    def get_node_ids(self) -> list[int]:
        return [] if self.gone else list(super().get_node_ids())


@pytest.mark.parametrize("sections", [{}, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_rounds_without_anybody_are_not_counted_as_done(tmp_path: Path, sections: dict[str, object]) -> None:
    config = toy.config(tmp_path, run={"rounds": 3}, export={"formats": []}, **sections)
    app = client_app(build_trainer(config, toy.data(), tmp_path))
    grid = Leaving(nodes_of(toy.data().clients), partial(run_app, app), clock=VirtualClock(10.0))

    def leave(event: Event) -> None:
        grid.gone |= event["kind"] == "round_finished"

    with closing(RunLog(tmp_path, config.run.name)) as log:
        log.listen(leave)
        with pytest.raises(RoundError, match="expected at least 1 clients within"):
            run_rounds(FlowerExchange(grid), Setup.of(config, toy.data()), tmp_path, log)
    accepted = [event["accepted"] for event in read_events(tmp_path) if event["kind"] == "round_finished"]
    assert 0 < len(accepted) < 3
    assert all(accepted)


class SlowToAnswer(VirtualClock):
    """Saying who one is takes as long as training does."""

    def start(self, message_id: str, message_type: str, group_id: str, client_id: str) -> None:
        super().start(message_id, TRAIN.message_type, group_id, client_id)


def test_a_start_waits_for_the_clients_that_it_needs_and_has_asked(tmp_path: Path) -> None:
    config = toy.config(tmp_path, round={"min_clients": 4}, run={"rounds": 1}, export={"formats": []})
    app = client_app(build_trainer(config, toy.data(), tmp_path))
    grid = InProcessGrid(nodes_of(toy.data().clients), partial(run_app, app), clock=SlowToAnswer(100.0))
    with closing(RunLog(tmp_path, config.run.name)) as log:
        run_rounds(FlowerExchange(grid), Setup.of(config, toy.data()), tmp_path, log)
    ended = [event for event in read_events(tmp_path) if event["kind"] == "round_finished"]
    assert [event["accepted"] for event in ended] == [4]


def test_a_round_without_anybody_is_no_round(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"round\.min_clients: expected at least 1, got 0"):
        toy.config(tmp_path, round={"min_clients": 0})
