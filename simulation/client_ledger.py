"""The ledger of a simulation's clients: where it lies, and whether it is the one that a checkpoint was made with."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path

from fl_core.config import Config
from fl_core.errors import LedgerError
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.ledger import Ledger
from fl_server.rounds.checkpoint import load_checkpoint

_ROUNDING = 1e-9
"""An accountant may sum in another order when it is asked again."""


def client_folder(run_dir: Path) -> Path:
    """Where the clients of a simulated run keep what is theirs."""
    return run_dir / "clients"


def ledger_of_clients(run_dir: Path) -> Path:
    """The one ledger of all clients of a simulated run."""
    return client_folder(run_dir) / "ledger.sqlite"


def check_ledger(config: Config, run_dir: Path) -> None:
    """Refuse to go on from a checkpoint whose clients' ledger is not there, or knows less than was summed.

    It may well know more: what was spent after the checkpoint.

    Raises:
        LedgerError: names the file, the first such client, what the checkpoint says of it and what the ledger knows.
    """
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    accepted = {} if checkpoint is None else checkpoint.facts["accepted"]
    if checkpoint is None or not accepted:
        return
    path, spent = ledger_of_clients(run_dir), checkpoint.facts.get("spent", {})  # an older version kept none
    ledger = Ledger(path, simulated=True) if path.exists() else None
    with closing(ledger) if ledger else nullcontext():
        for client, task in sorted(accepted.items()):
            least = float(spent.get(client, 0.0))
            came = _shortage(config, ledger, client, task, least)
            if came is not None:
                wanted = "its entries" if config.privacy is None else f"its task {task} and epsilon {least:.2f} spent"
                raise LedgerError(
                    f"ledger {path}: client {client}: expected {wanted}, as its checkpoint says, got {came}; put back "
                    "the one that the run had, or start the run anew with --overwrite"
                )


def _shortage(config: Config, ledger: Ledger | None, client: str, task: str, least: float) -> str | None:
    """What a ledger knows of a client where that is too little; None where it is enough."""
    if ledger is None:
        return "no file"
    if config.privacy is None:
        return None if ledger.history(client) else "none"
    entry, delta = ledger.knows(client, task), config.privacy.delta
    if entry is not None and epsilon(entry.rdp, delta) >= least * (1 - _ROUNDING):
        return None
    return f"epsilon {ledger.spent(client, delta):.2f}" + ("" if entry else " and no such task")
