"""Privacy that was spent for nothing is told too: no figure of a run is below what its clients' ledger holds."""

from __future__ import annotations

import json
import shutil
from contextlib import closing, suppress
from pathlib import Path

import pytest
import toy

from fl_core.errors import LedgerError, NoUpdateError
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import Event, read_events
from fl_server.watch.state import state_of
from simulation.client_ledger import ledger_of_clients
from simulation.run import resume
from simulation.run import run as simulate

PRIVATE: dict[str, object] = {"privacy": {"epsilon": 8.0}, "export": {"formats": []}}
SLOW: dict[str, object] = {"seconds_per_round": 10.0, "clients": {"client-3": 60.0}}
IN_VAIN: dict[str, dict[str, object]] = {
    "surplus": {"clients": {"per_round": 1, "over_select": 2.0}},
    "rejected": {"round": {"max_update_norm": 1e-6}},
    "too late": {"round": {"deadline_s": 30.0}, "simulation": SLOW},
    "ranges": {"quant": {"ranges": "dp_histogram"}, "round": {"max_update_norm": 1e-6}},
    "asynchronous": {"strategy": {"name": "fedbuff", "args": {"buffer_size": 2}}, "simulation": SLOW},
}


def held(run_dir: Path) -> float:
    """The most that any client has spent, as their ledger says."""
    with closing(Ledger(ledger_of_clients(run_dir), simulated=True)) as ledger:
        return max(ledger.spent(f"client-{number}", 1e-5) for number in range(4))


@pytest.mark.parametrize("sections", IN_VAIN.values(), ids=IN_VAIN)
def test_the_reported_epsilon_is_what_the_ledger_holds(tmp_path, sections):
    with suppress(NoUpdateError):
        simulate(toy.config(tmp_path, **{**PRIVATE, **sections}))
    run_dir = tmp_path / "toy"
    told = state_of(read_events(run_dir)).epsilon_max
    assert told == pytest.approx(held(run_dir), rel=1e-9)
    if (run_dir / "summary.json").exists():
        assert json.loads((run_dir / "summary.json").read_text())["privacy"]["epsilon_max"] == told


def test_a_run_whose_clients_paid_for_ranges_alone_misses_their_ledger(tmp_path):
    ranges: dict[str, object] = {"quant": {"ranges": "dp_histogram"}}
    copy = tmp_path / "begun"

    def keep(event: Event) -> None:
        if (event["kind"], event["round"]) == ("round_started", 1):
            shutil.copytree(tmp_path / "toy", copy)

    simulate(toy.config(tmp_path, **PRIVATE, **ranges), listeners=[keep])
    shutil.rmtree(copy / "clients")
    with pytest.raises(LedgerError, match=r"client client-0: expected epsilon .* spent, .* got no file"):
        resume(copy)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("at", "came"), [("round_started", "got no file"), ("round_finished", "no file")])
def test_a_ledger_that_goes_while_the_run_works_ends_it(tmp_path, workers, at, came):
    def lose(event: Event) -> None:
        if event["kind"] == at and event["round"] == 3:
            for part in ledger_of_clients(tmp_path / "toy").parent.iterdir():
                part.unlink()

    with pytest.raises(LedgerError, match=came):
        simulate(toy.config(tmp_path, **PRIVATE), workers=workers, listeners=[lose])
    kinds = [event["kind"] for event in read_events(tmp_path / "toy")]
    assert "client_refused" not in kinds
    assert "run_finished" not in kinds


@pytest.mark.parametrize("at", ["round_started", "round_finished"])
def test_a_ledger_that_is_cut_while_the_run_works_ends_it(tmp_path, at):
    def cut(event: Event) -> None:
        if event["kind"] == at and event["round"] == 3:
            with ledger_of_clients(tmp_path / "toy").open("wb"):
                pass

    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        simulate(toy.config(tmp_path, **PRIVATE), listeners=[cut])
    assert "run_finished" not in [event["kind"] for event in read_events(tmp_path / "toy")]
