"""A run goes on only with the ledgers that its checkpoint was made with: what was spent is never forgotten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from fl_core.config import load_config
from fl_core.errors import LedgerError
from fl_core.runlog import Event, read_events
from fl_server.plan.user_privacy import LEDGER_FILE
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.client_ledger import check_ledger, ledger_of_clients
from simulation.run import resume
from simulation.run import run as simulate

PRIVATE: dict[str, object] = {"privacy": {"epsilon": 8.0}, "export": {"formats": []}}
CENTRAL: dict[str, object] = {
    "strategy": {"name": "central_dp", "args": {"epsilon": 6.0, "expected_clients": 4}},
    "export": {"formats": []},
}


def remove(ledger: Path) -> None:
    for part in ledger.parent.glob(f"{ledger.name}*"):
        part.unlink()


def cut(run_dir: Path) -> None:
    """Take a finished run of three rounds back to the end of its second, as a kill there leaves it."""
    shutil.copy(run_dir / "checkpoint/previous.safetensors", run_dir / "checkpoint/latest.safetensors")
    lines = (run_dir / "events.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["round"] < 3]
    (run_dir / "events.jsonl").write_text("".join(f"{line}\n" for line in kept))


def ran(out: Path, ledger: Callable[[Path], Path], **sections: object) -> tuple[Path, Path]:
    """A run that was cut, and the ledger that it had after its first round."""
    earlier = out / "earlier" / "ledger.sqlite"

    def keep(event: Event) -> None:
        if (event["kind"], event["round"]) == ("round_finished", 1):
            shutil.copytree(ledger(out / "toy").parent, earlier.parent)
            shutil.copytree(out / "toy", out / "first", dirs_exist_ok=True)

    run_dir = simulate(toy.config(out, **sections), listeners=[keep])
    cut(run_dir)
    return run_dir, out / "first"


def put(first: Path, ledger: Path, run_dir: Path) -> None:
    """The ledger of a copy in place of the run's own."""
    remove(run_dir / ledger)
    for part in (first / ledger).parent.glob(f"{ledger.name}*"):
        shutil.copy(part, run_dir / ledger.parent / part.name)


@pytest.mark.parametrize("sections", [PRIVATE, CENTRAL], ids=["clients", "server"])
def test_a_run_whose_ledger_is_missing_older_or_anothers_does_not_go_on(tmp_path, sections):
    def ledger(run_dir: Path) -> Path:
        return ledger_of_clients(run_dir) if sections is PRIVATE else run_dir / LEDGER_FILE

    run_dir, first = ran(tmp_path / "one", ledger, **sections)
    other = simulate(toy.config(tmp_path / "other", run={"seed": 99, "rounds": 1}, **sections))
    whole = tmp_path / "whole"
    shutil.copytree(run_dir, whole)
    inside = ledger(Path())
    before = (run_dir / "events.jsonl").read_bytes()
    for came, lose in {
        "no file": lambda: remove(ledger(run_dir)),
        "got ": lambda: put(first, inside, run_dir),
        "got": lambda: put(other, inside, run_dir),
    }.items():
        lose()
        with pytest.raises(LedgerError, match=came) as refusal:
            resume(run_dir)
        words = str(refusal.value)
        assert all(told in words for told in (str(ledger(run_dir)), "expected", "epsilon", "--overwrite"))
        assert ("client-0" if sections is PRIVATE else "'clients'") in words
        assert "\n" not in words
        assert refusal.value.exit_code == 5
        assert (run_dir / "events.jsonl").read_bytes() == before, "nothing was changed"
    put(whole, inside, run_dir)
    resume(run_dir)
    finished = [event for event in read_events(run_dir) if event["kind"] == "round_finished"]
    assert [event["round"] for event in finished] == [1, 2, 3]


def test_what_clients_remember_without_privacy_is_missed_too(tmp_path):
    run_dir = simulate(toy.config(tmp_path, strategy={"name": "scaffold"}, export={"formats": []}))
    config = load_config(run_dir / "config.yaml")
    check_ledger(config, run_dir, load_checkpoint(run_dir / "checkpoint"))
    remove(ledger_of_clients(run_dir))
    with pytest.raises(LedgerError, match="client client-0: expected its entries"):
        check_ledger(config, run_dir, load_checkpoint(run_dir / "checkpoint"))


def test_a_ledger_that_knows_more_than_the_checkpoint_is_right(tmp_path):
    run_dir = simulate(toy.config(tmp_path, **PRIVATE))
    cut(run_dir)
    check_ledger(load_config(run_dir / "config.yaml"), run_dir, load_checkpoint(run_dir / "checkpoint"))
