"""The ledger of a simulation's clients: where it lies, what it says, and whether it is that of a checkpoint."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path

from fl_core.config import Config
from fl_core.errors import LedgerError
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_db import Entry
from fl_core.privacy.ledger_file import PUT_BACK
from fl_core.types import RoundPlan
from fl_server.rounds.checkpoint import Checkpoint

_ROUNDING = 1e-9
"""An accountant may sum in another order when it is asked again."""


def client_folder(run_dir: Path) -> Path:
    """Where the clients of a simulated run keep what is theirs."""
    return run_dir / "clients"


def ledger_of_clients(run_dir: Path) -> Path:
    """The one ledger of all clients of a simulated run."""
    return client_folder(run_dir) / "ledger.sqlite"


class SimulatedLedgers:
    """What the one ledger of a simulated run says of its clients; it is looked into only when it is asked."""

    def __init__(self, run_dir: Path) -> None:
        self._path = ledger_of_clients(run_dir)
        self._open: Ledger | None = None

    def spent(self, plan: RoundPlan) -> float | None:
        """What the client's data has spent with this task; None where nothing was set aside for it."""
        return _epsilon_of(self._ledger.knows(plan.client_id, plan.task_id))

    def most(self) -> float | None:
        """The most that any client's data has spent by now, as the whole file says; None where nothing was.

        Raises:
            LedgerError: the file is gone, another one or damaged.
        """
        if self._open is not None:  # else opening it reads the whole of it
            self._open.verify()
        return max(filter(None, map(_epsilon_of, self._ledger.newest_reservations())), default=None)

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()

    @property
    def _ledger(self) -> Ledger:
        if self._open is None:
            if not self._path.exists():
                raise LedgerError(f"ledger {self._path}: expected the ledger of this run, got no file; {PUT_BACK}")
            self._open = Ledger(self._path, simulated=True)
        return self._open


def _epsilon_of(reservation: Entry | None) -> float | None:
    return None if reservation is None else float(reservation.body["epsilon"])


def check_ledger(config: Config, run_dir: Path, checkpoint: Checkpoint) -> None:
    """Refuse to go on from a checkpoint whose clients' ledger is not there, or knows less than was summed.

    It may well know more: what was spent after the checkpoint.

    Raises:
        LedgerError: names the file, the first such client, what the checkpoint says of it and what the ledger knows.
    """
    accepted = checkpoint.facts["accepted"]
    spent = checkpoint.facts.get("spent", {})  # an older version kept none
    if not accepted and not spent:
        return
    path = ledger_of_clients(run_dir)
    ledger = Ledger(path, simulated=True) if path.exists() else None
    with closing(ledger) if ledger else nullcontext():
        for client in sorted(accepted.keys() | spent.keys()):
            task, least = accepted.get(client), float(spent.get(client, 0.0))
            came = _shortage(config, ledger, client, task, least)
            if came is not None:
                known = "" if task is None else f"its task {task} and "  # without one it has paid for its ranges alone
                wanted = "its entries" if config.privacy is None else f"{known}epsilon {least:.2f} spent"
                raise LedgerError(
                    f"ledger {path}: client {client}: expected {wanted}, as its checkpoint says, got {came}; put back "
                    "the one that the run had, or start the run anew with --overwrite"
                )


def _shortage(config: Config, ledger: Ledger | None, client: str, task: str | None, least: float) -> str | None:
    """What a ledger knows of a client where that is too little; None where it is enough."""
    if ledger is None:
        return "no file"
    if config.privacy is None:
        return None if ledger.history(client) else "none"
    delta = config.privacy.delta
    entry = None if task is None else ledger.knows(client, task)
    there = epsilon(ledger.rdp(client) if entry is None else entry.rdp, delta)
    if (entry is not None or task is None) and there >= least * (1 - _ROUNDING):
        return None
    return f"epsilon {ledger.spent(client, delta):.2f}" + ("" if entry or task is None else " and no such task")
