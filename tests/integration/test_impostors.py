"""A node that answers with another client's name: it takes nothing from that client, and the operator hears of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import toy

from fl_core.runlog import RunLog, read_events
from fl_core.tree import digest
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app

THIEF, VICTIM = 9, "client-1"


def federate(out: Path, nodes: dict[int, str], enrolled: dict[int, str], **sections: object) -> str:
    """Run the toy federation over nodes that say these names; gives the digest of the final model."""
    config = toy.config(out, **sections)
    federation = toy.data()
    app = client_app(build_trainer(config, federation, out))
    log = RunLog(out, config.run.name)
    grid = InProcessGrid(nodes, partial(run_app, app))
    run_rounds(FlowerExchange(grid), Setup.of(config, federation), out, log, enrolled=lambda: enrolled)
    log.close()
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint is not None
    return digest(checkpoint.state.model)


def test_a_thief_of_a_name_changes_no_model_and_is_named_with_its_own(tmp_path: Path) -> None:
    honest = nodes_of(toy.data().clients)
    enrolled = {**honest, THIEF: "client-9"}
    alone = federate(tmp_path / "alone", honest, enrolled)
    robbed = federate(tmp_path / "robbed", {**honest, THIEF: VICTIM}, enrolled)
    assert robbed == alone
    events = list(read_events(tmp_path / "robbed"))
    rounds = [event["cohort"] for event in events if event["kind"] == "round_started"]
    assert all(sorted(cohort) == sorted(honest.values()) for cohort in rounds)
    said = [(event["client_id"], event["reason"]) for event in events if event["kind"] == "client_rejected"]
    assert said == [("client-9", "node 9: expected client_id 'client-9', as enrolled, got 'client-1'")] * len(rounds)


def test_a_thief_is_not_summed_while_the_client_that_it_names_is_away(tmp_path: Path) -> None:
    honest = {node_id: name for node_id, name in nodes_of(toy.data().clients).items() if name != VICTIM}
    federate(tmp_path, {**honest, THIEF: VICTIM}, {**honest, THIEF: "client-9"}, round={"min_clients": 2})
    summed = {event["client_id"] for event in read_events(tmp_path) if event["kind"] == "client_finished"}
    assert summed == set(honest.values())


def test_a_node_that_no_key_was_enrolled_for_takes_no_part(tmp_path: Path) -> None:
    honest = nodes_of(toy.data().clients)
    federate(tmp_path, {**honest, THIEF: "client-9"}, honest)
    asked = {name for event in read_events(tmp_path) if event["kind"] == "round_started" for name in event["cohort"]}
    assert asked == set(honest.values())
