"""Whom a synchronous round asks and waits for: over-selection, nodes that come and go, one client behind two nodes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message

from fl_core.errors import ConfigError, RoundError
from fl_core.export.artifact import read_artifact
from fl_core.runlog import RunLog, read_events
from fl_core.tree import digest
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app
from simulation.fleet.clock import virtual_clock
from simulation.run import run

SLOW = "client-3"
OVER = {
    "clients": {"per_round": 3, "over_select": 1.3},
    "simulation": {"seconds_per_round": 10.0, "clients": {SLOW: 60.0}},
    "export": {"formats": []},
}


class Fleet(InProcessGrid):
    """A Grid whose nodes are online from one look at them to another."""

    online: Iterable[int] = ()

    def get_node_ids(self) -> Iterable[int]:
        return list(self.online)


def federate(out: Path, nodes: dict[int, str], online, silent: str = "", **sections: object) -> list:
    """Run the toy federation; ``online(rounds_done)`` are the nodes that are there."""
    config = toy.config(out, **{"export": {"formats": []}, **sections})
    app = client_app(build_trainer(config, toy.data(), out))

    def answer(message: Message, context: Context) -> Message | None:
        return None if context.node_config["client-id"] == silent else run_app(app, message, context)

    grid = Fleet(nodes, answer, clock=virtual_clock(config, nodes.values()))
    grid.online = online(0)
    log = RunLog(out, config.run.name)

    def observe(view) -> None:
        grid.online = online(view.round)

    with closing(log):
        run_rounds(FlowerExchange(grid), Setup.of(config, toy.data()), out, log, observe)
    return list(read_events(out))


def of_kind(events: list, kind: str) -> list:
    return [event for event in events if event["kind"] == kind]


def test_over_selection_waits_for_the_quickest_and_drops_the_rest(tmp_path):
    out = run(toy.config(tmp_path, **OVER))
    events = list(read_events(out))
    assert [len(event["cohort"]) for event in of_kind(events, "round_started")] == [4, 4, 4]
    assert [event["accepted"] for event in of_kind(events, "round_finished")] == [3, 3, 3]
    assert [event["client_id"] for event in of_kind(events, "client_dropped")] == [SLOW] * 3
    assert [event["virtual_s"] for event in of_kind(events, "round_timed")] == [10.0, 20.0, 30.0]


def test_over_selection_gives_the_same_bits_with_any_number_of_workers(tmp_path):
    equal = {**OVER, "simulation": {"seconds_per_round": 10.0}, "privacy": {"epsilon": 8.0}}
    ends = []
    for workers in (1, 2):
        checkpoint = load_checkpoint(run(toy.config(tmp_path / str(workers), **equal), workers=workers) / "checkpoint")
        assert checkpoint is not None
        ends.append((digest(checkpoint.state.model), checkpoint.facts))
    assert ends[0] == ends[1]


def test_over_selection_of_everyone_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="over_select"):
        toy.config(tmp_path, clients={"over_select": 1.5})


def test_nodes_are_found_as_they_come_and_missed_as_they_go(tmp_path):
    nodes = nodes_of(toy.data().clients)
    first, second, third, _ = sorted(nodes)
    there = {0: [first], 1: [first, second, third], 2: [third]}
    events = federate(tmp_path, nodes, lambda done: there.get(done, []))
    cohorts = [event["cohort"] for event in of_kind(events, "round_started")]
    assert cohorts == [["client-0"], ["client-0", "client-1", "client-2"], ["client-2"]]


def test_a_node_that_never_says_who_it_is_holds_no_round_up(tmp_path):
    nodes = nodes_of(toy.data().clients)
    known = [node for node, name in nodes.items() if name != "client-2"]
    timed = {"simulation": {"seconds_per_round": 1.0}}
    online = lambda done: list(nodes) if done else known  # noqa: E731
    events = federate(tmp_path, nodes, online, silent="client-2", **timed)
    assert [event["virtual_s"] for event in of_kind(events, "round_timed")] == [1.0, 2.0, 3.0]


def test_a_round_that_nobody_comes_to_is_not_counted_and_the_run_goes_on_later(tmp_path):
    nodes = nodes_of(toy.data().clients)
    with pytest.raises(RoundError, match="at least 1 clients within 30 s, got 0"):
        federate(tmp_path, nodes, lambda done: [] if done == 1 else list(nodes), round={"deadline_s": 30.0})
    events = federate(tmp_path, nodes, lambda done: list(nodes), round={"deadline_s": 30.0})
    assert [event["rounds_done"] for event in of_kind(events, "run_resumed")] == [1]
    assert [event["accepted"] for event in of_kind(events, "round_finished")] == [4, 4, 4]


def test_a_client_behind_two_nodes_is_asked_and_summed_once(tmp_path):
    nodes = nodes_of(toy.data().clients)
    double = {**nodes, max(nodes) + 1: "client-1"}
    events = federate(tmp_path / "double", double, lambda done: list(double))
    assert [event["accepted"] for event in of_kind(events, "round_finished")] == [4, 4, 4]
    federate(tmp_path / "single", nodes, lambda done: list(nodes))
    ends = [load_checkpoint(tmp_path / name / "checkpoint") for name in ("double", "single")]
    assert digest(ends[0].state.model) == digest(ends[1].state.model)


def test_oort_learns_losses_and_speeds_and_they_are_in_the_checkpoint(tmp_path):
    clients = {"per_round": 2, "selection": {"name": "oort", "args": {"preferred_s": 20.0}}}
    out = run(toy.config(tmp_path, **{**OVER, "clients": clients, "run": {"rounds": 5}}))
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint is not None
    seen = checkpoint.facts["seen"]
    assert sum(each["asked"] for each in seen.values()) == 10
    assert all(each["loss"] > 0 and each["seconds"] in (10.0, 60.0) for each in seen.values() if each["answered"])


def test_an_artefact_tells_what_the_most_charged_client_of_all_rounds_has_spent(tmp_path):
    out = run(toy.config(tmp_path, privacy={"epsilon": 8.0}, clients={"per_round": 1}, run={"rounds": 4}))
    spent = [event["epsilon_max"] for event in of_kind(list(read_events(out)), "round_finished")]
    assert any(later < earlier for earlier, later in pairwise(spent)), spent
    told = [read_artifact(out / "rounds" / f"{round:04d}" / "onnx").origin.epsilon for round in (1, 2, 3, 4)]
    assert told == [max(spent[:round]) for round in (1, 2, 3, 4)]
