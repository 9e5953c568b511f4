"""Asynchronous runs on the virtual clock: nobody is waited for, nothing is summed twice, the same bits every time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message
from run_kills import survive_kills

from fl_core.errors import NoUpdateError
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import RunLog, read_events
from fl_core.tree import digest
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.results.observer import RoundView
from fl_server.rounds.checkpoint import load_checkpoint
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app
from simulation.fleet.clock import virtual_clock
from simulation.run import run

SLOW = "client-3"
ASYNC = {
    "strategy": {"name": "fedbuff", "args": {"buffer_size": 2}},
    "simulation": {"seconds_per_round": 10.0, "clients": {SLOW: 35.0}},
    "run": {"rounds": 8},
    "export": {"formats": []},
}
Silence = Callable[[Message, str], bool]


def federate(out: Path, observe=None, silent: Silence | None = None, **sections: object) -> Path:
    """Start or go on with an asynchronous run of the toy federation, here and without worker processes."""
    config = toy.config(out, **{**ASYNC, **sections})
    federation = toy.data()
    app = client_app(build_trainer(config, federation, out))

    def answer(message: Message, context: Context) -> Message | None:
        name = str(context.node_config["client-id"])
        quiet = silent is not None and message.metadata.message_type == "train" and silent(message, name)
        return None if quiet else run_app(app, message, context)

    log = RunLog(out, config.run.name)
    grid = InProcessGrid(nodes_of(federation.clients), answer, clock=virtual_clock(config, federation.clients))
    try:
        run_rounds(FlowerExchange(grid), Setup.of(config, federation), out, log, observe)
    finally:
        log.close()
    return out


def final(out: Path) -> str:
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint is not None
    return digest(checkpoint.state.model)


def events(out: Path, kind: str) -> list:
    return [event for event in read_events(out) if event["kind"] == kind]


def story(out: Path) -> list[tuple]:
    """What happened, without wall time and numbers of events."""
    left_out = {"seq", "time", "seconds"}
    return [
        tuple((key, str(value)) for key, value in event.items() if key not in left_out)
        for event in read_events(out)
        if event["kind"] not in ("run_resumed", "run_finished")
    ]


def test_a_slow_client_holds_nobody_up_and_still_takes_part(tmp_path):
    out = federate(tmp_path)
    times = [event["virtual_s"] for event in events(out, "round_timed")]
    assert times == sorted(times)
    assert times[-1] < 8 * 35 / 3
    finished = events(out, "client_finished")
    assert {event["client_id"] for event in finished} == {f"client-{n}" for n in range(4)}
    assert max(event["staleness"] for event in finished) > 1
    assert all(event["accepted"] == 2 for event in events(out, "round_finished"))


def test_no_client_trains_a_version_twice(tmp_path):
    out = federate(tmp_path, strategy={"name": "fedbuff", "args": {"buffer_size": 4}})
    done = [(event["client_id"], event["round"] - event["staleness"]) for event in events(out, "client_finished")]
    assert len(done) == len(set(done)) == 32


class CrashError(Exception):
    """The end of a server."""


@pytest.mark.parametrize("privacy", [None, {"epsilon": 8.0}])
def test_a_crash_in_every_version_changes_no_bit(tmp_path, privacy):
    straight = federate(tmp_path / "straight", privacy=privacy)

    def crash_in(version: int) -> Callable[[RoundView], None]:
        def observe(view: RoundView) -> None:
            if view.round == version:
                raise CrashError

        return observe

    for version in range(1, 9):
        with pytest.raises(CrashError):
            federate(tmp_path / "crashed", crash_in(version), privacy=privacy)
    crashed = federate(tmp_path / "crashed", privacy=privacy)
    assert final(crashed) == final(straight)
    assert story(crashed) == story(straight)
    for name in toy.data().clients:
        ends = []
        for out in (straight, crashed):
            ledger = Ledger(out / "clients" / "ledger.sqlite", simulated=True)
            ends.append(ledger.spent(name, 1e-5))
            ledger.close()
        assert ends[0] == ends[1]


def test_kills_change_no_bit(tmp_path):
    config = toy.config(tmp_path, **{**ASYNC, "run": {"rounds": 5}, "privacy": {"epsilon": 8.0}})
    report = survive_kills(config, tmp_path, 3, seed=3, tick=lambda: None)
    assert report.models_differ == report.rounds_lost == report.ledgers_under == 0


def test_workers_change_no_bit(tmp_path):
    outs = [run(toy.config(tmp_path / str(n), **ASYNC), workers=n) for n in (1, 2)]
    assert final(outs[0]) == final(outs[1])
    assert story(outs[0]) == story(outs[1])


def test_nothing_beyond_the_greatest_staleness_is_summed(tmp_path):
    args = {"buffer_size": 2, "max_staleness": 1}
    out = federate(tmp_path, strategy={"name": "fedbuff", "args": args})
    assert all(event["staleness"] <= 1 for event in events(out, "client_finished"))
    late = events(out, "client_rejected")
    assert any(event["client_id"] == SLOW and "staleness of 0 to 1" in event["reason"] for event in late)


def test_a_silent_client_is_missed_at_its_deadline_and_asked_again(tmp_path):
    out = federate(tmp_path, silent=lambda message, name: name == "client-1", round={"deadline_s": 25.0})
    missing = events(out, "client_missing")
    assert {"client-1"} <= {event["client_id"] for event in missing} <= {"client-1", SLOW}
    times = [event["virtual_s"] for event in events(out, "round_timed")]
    assert max(after - before for before, after in pairwise(times)) <= 25.0
    assert len(times) == 8


def test_a_version_without_anyone_ends_at_its_deadline(tmp_path):
    with pytest.raises(NoUpdateError, match="4 of 4 clients gave no answer in time"):
        federate(tmp_path, silent=lambda message, name: True, round={"deadline_s": 25.0}, run={"rounds": 2})
    assert [event["virtual_s"] for event in events(tmp_path, "round_timed")] == [25.0, 50.0]


def test_fedasync_makes_a_version_of_every_reply(tmp_path):
    out = federate(tmp_path, strategy={"name": "fedasync", "args": {}})
    assert [event["accepted"] for event in events(out, "round_finished")] == [1] * 8


def test_old_models_are_kept_only_while_a_task_needs_them(tmp_path):
    out = federate(tmp_path, run={"rounds": 12})
    assert len(list((out / "checkpoint" / "sent").iterdir())) <= 5
