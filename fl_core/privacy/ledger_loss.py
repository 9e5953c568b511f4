"""Going on after a ledger is lost: a new one that begins with all that is known, or must be feared, to be spent.

What the head says is exact, for it is written before anything is trained. Where a server holds an answer that ledger
and head both do not know, the device was put back to an earlier day, and nobody knows what it did since: then all
that its policy allows counts as spent. Nothing is ever deleted: a file that is not the newest one is set aside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_core.errors import ConfigError, LedgerError
from fl_core.privacy.accountant import RdpVector, epsilon
from fl_core.privacy.ledger_db import LedgerDb
from fl_core.privacy.ledger_file import PUT_BACK
from fl_core.privacy.ledger_head import HeadFile, KeptHeads, LedgerHead, check_covers, head_of
from fl_core.privacy.policy import DevicePolicy

_PARTS = ("", "-wal", "-shm")
"""What SQLite adds to the name of a database for the files beside it."""


@dataclass(frozen=True)
class LedgerLoss:
    """What was wrong with a ledger, and what counts as spent from now on."""

    reason: str
    set_aside: Path | None
    """Where the file is now that was not the newest one; None where there was none, or it stays."""
    epsilon: Mapping[str, float]
    """What each data set has spent now, at the delta of its last reservation."""
    unknown: tuple[str, ...]
    """Data sets of which all that the policy allows counts as spent."""


def begin_again(path: Path, heads: HeadFile, policy: DevicePolicy, *, simulated: bool) -> LedgerLoss:
    """Put a new ledger in the place of one that is lost, or enter into a whole one what it does not know.

    May be called again after a kill at any point.

    Raises:
        ConfigError: nothing is lost.
        LedgerError: no head is kept, so nothing says what was spent; or the file of heads is damaged.
    """
    known = heads.load()
    reason = _what_is_wrong(path, heads, known, simulated)
    if not known:
        raise LedgerError(f"{reason}; no head of it is kept, so nothing says what was spent: {PUT_BACK}")
    least = {dataset_id: _least(head, policy) for dataset_id, head in known.items()}
    aside = None
    if path.exists() and not _covers(path, known, simulated):
        for dataset_id, other in _other_histories(path, known, simulated).items():
            least[dataset_id] = least[dataset_id] + other  # spent by a copy of the device on the same data
        aside = _set_aside(path)
    with closing(LedgerDb(path, simulated=simulated)) as db:
        path.chmod(0o600)
        totals = {name: _carry(db, name, head, least[name], policy.delta) for name, head in known.items()}
        heads.save({name: found for name in known if (found := head_of(db, name))})
    unknown = tuple(name for name, head in known.items() if head.unknown_task is not None)
    return LedgerLoss(reason, aside, totals, unknown)


def _what_is_wrong(path: Path, heads: HeadFile, known: Mapping[str, LedgerHead], simulated: bool) -> str:
    try:
        if path.exists():
            with closing(LedgerDb(path, simulated=simulated)) as db:
                KeptHeads(db, heads).check()
        elif known:
            heads.check_gone(path)
    except LedgerError as wrong:
        return str(wrong)
    raise ConfigError(f"ledger {path}: is the newest one that is known of; nothing was changed")


def _least(head: LedgerHead, policy: DevicePolicy) -> RdpVector:
    """What counts as spent at the least.

    A constant over all orders adds to what comes after it as epsilons add up, which is never too low; the deltas of
    both add up as well, and that is for words to say.
    """
    return head.rdp if head.unknown_task is None else np.maximum(head.rdp, policy.epsilon_cap)


def _covers(path: Path, known: Mapping[str, LedgerHead], simulated: bool) -> bool:
    try:
        with closing(LedgerDb(path, simulated=simulated)) as db:
            for dataset_id, head in known.items():
                check_covers(db, dataset_id, head, "")
    except LedgerError:
        return False
    return True


def _other_histories(path: Path, known: Mapping[str, LedgerHead], simulated: bool) -> dict[str, RdpVector]:
    """What a readable ledger has spent of known data sets in another history than the known one."""
    found = {}
    try:
        with closing(LedgerDb(path, simulated=simulated)) as db:
            for dataset_id, head in known.items():
                there, last = db.entry_at(dataset_id, head.position), db.head(dataset_id)
                if there is not None and there.hash != head.hash and last is not None:
                    found[dataset_id] = last.rdp
    except LedgerError:
        return {}
    return found


def _set_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for part in _PARTS:
        old = path.with_name(path.name + part)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.lost-{stamp}{part}"))
    return path.with_name(f"{path.name}.lost-{stamp}")


def _carry(db: LedgerDb, dataset_id: str, lost: LedgerHead, least: RdpVector, delta: float) -> float:
    """Enter what was spent as a reservation of its own; gives the data set's epsilon after it."""
    delta = lost.delta or delta
    with db.transaction():
        now = time.time()
        if db.head(dataset_id) is None:
            db.append(dataset_id, "enrol", "", {"size_class": lost.size_class, "time_s": now})
        head = db.head(dataset_id)
        total = least if head is None else np.maximum(head.rdp, least)
        spent = epsilon(total, delta)
        unknown = lost.unknown_task is not None
        body = {
            "carried": True, "unknown": unknown, "delta": delta, "epsilon": spent, "run": lost.run, "time_s": now,
        }  # fmt: skip
        db.append(dataset_id, "reserve", lost.unknown_task or "", body, at_least=total)
    return spent
