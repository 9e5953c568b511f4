"""A rule of selection gets what it asks its clients for, whoever wrote it; under privacy it is refused before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from fl_core.errors import ConfigError
from fl_core.runlog import Event, read_events
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.preflight import preflight
from simulation.run import run

OWN = {"factory": "own_selection:Hardest"}


def of_kind(folder: Path, kind: str) -> list[Event]:
    return [event for event in read_events(folder) if event["kind"] == kind]


def test_every_update_of_a_run_with_an_own_rule_that_wants_losses_is_summed(tmp_path):
    config = toy.config(tmp_path, run={"rounds": 2}, clients={"per_round": 2, "selection": OWN})
    preflight(config)
    folder = run(config)
    assert [event["accepted"] for event in of_kind(folder, "round_finished")] == [2, 2]
    assert not of_kind(folder, "client_rejected")
    # Each client that answered has told a loss, so the second round asked those whose loss was not known yet.
    checkpoint = load_checkpoint(folder / "checkpoint")
    assert checkpoint is not None
    assert len(of_kind(folder, "client_finished")) == 4
    cohorts = [event["cohort"] for event in of_kind(folder, "round_started")]
    assert sorted([*cohorts[0], *cohorts[1]]) == ["client-0", "client-1", "client-2", "client-3"]


def test_an_own_rule_that_wants_losses_is_refused_under_privacy_before_anything_starts(tmp_path):
    config = toy.config(tmp_path, privacy={"epsilon": 8.0}, clients={"per_round": 2, "selection": OWN})
    with pytest.raises(ConfigError, match=r"clients\.selection: Hardest .* losses of private examples would leave"):
        preflight(config)
    assert not list(tmp_path.iterdir())


def test_a_rule_that_asks_for_what_no_client_has_is_refused(tmp_path):
    config = toy.config(tmp_path, clients={"selection": {"factory": "own_selection:Nosy"}})
    with pytest.raises(ConfigError, match=r"Nosy asks clients for the part 'diary', expected one of rms_loss, ranges"):
        preflight(config)


def test_a_plan_tells_a_client_nothing_of_how_it_was_chosen(tmp_path):
    config = toy.config(tmp_path, clients={"per_round": 2, "selection": OWN, "over_select": 1.5})
    setup = Setup.of(config, toy.data())
    plan = plan_of(setup, next(iter(_infos())), 1, 0)
    assert plan.asks == ("rms_loss",)
    assert plan.training["clients"].keys() == {"local_epochs", "batch_size", "local_steps", "optimizer"}
    assert "own_selection" not in repr(plan.training)


def _infos():
    from fl_core.types import ClientInfo

    yield ClientInfo("client-1", 48, "", True)
