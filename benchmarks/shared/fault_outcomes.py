"""What became of each fault: kept as it is known, a line each, and told as tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from inject.harm import KILLS, OTHERS

from fl_core.errors import ConfigError
from fl_server.watch.words import ABSENT
from shared.kill_phases import PHASES
from shared.printing import Figures

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Losses:
    """What must never happen; each is counted over the whole run so far."""

    rounds_lost: int = 0
    """Rounds taken back after their checkpoint, left out, or closed with fewer updates than their quorum."""
    double_counts: int = 0
    """Updates of one client that one round counted more than once."""
    ledger_under: int = 0
    """Tasks whose update was summed and that the ledger of their device does not know."""

    def __sub__(self, other: Losses) -> Losses:
        mine, theirs = asdict(self), asdict(other)
        return Losses(**{name: mine[name] - theirs[name] for name in mine})


@dataclass(frozen=True)
class FaultOutcome:
    """One fault and what came of it."""

    fault: str
    person: str
    phase: str
    """What the round was doing for that person's board; empty where the moment was any."""
    phase_s: float
    """Seconds since the start of the round that was open."""
    recovery_s: float | None
    """Until a round that began afterwards has ended with every device's update; None where that did not come."""
    losses: Losses


def keep_outcome(folder: Path, outcome: FaultOutcome) -> None:
    """Write one down, behind those that are there."""
    with (folder / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def read_outcomes(folder: Path) -> list[FaultOutcome]:
    """What earlier calls have found.

    Raises:
        ConfigError: they did not say in which phase a kill came.
    """
    path = folder / RESULTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    plain = [json.loads(line) for line in lines]
    if any("phase" not in fields for fields in plain):
        raise ConfigError(f"{path}: expected the phase of each kill, found lines without; name another --folder")
    return [FaultOutcome(**{**fields, "losses": Losses(**fields["losses"])}) for fields in plain]


def tables_of(outcomes: Sequence[FaultOutcome], undisturbed_s: Sequence[float]) -> list[Figures]:
    """The outcomes by fault, and the kills by the phase in which they came."""
    by_fault = {name: [each for each in outcomes if each.fault == name] for name in (*KILLS, *OTHERS)}
    by_phase = {name: [each for each in outcomes if each.phase == name] for name in PHASES}
    notes = (f"a round without a fault: median {statistics.median(undisturbed_s):.1f} s",) if undisturbed_s else ()
    title = "Until a round that began afterwards has ended with every device's update"
    return [
        _table(title, "fault", {**by_fault, "all": outcomes}, notes),
        _table("Kills, by what the round was doing for the board", "phase", by_phase, ()),
    ]


def _table(title: str, what: str, groups: Mapping[str, Sequence[FaultOutcome]], notes: tuple[str, ...]) -> Figures:
    rows = []
    for name, some in groups.items():
        if not some:
            continue
        times = sorted(each.recovery_s for each in some if each.recovery_s is not None)
        lost = [sum(getattr(each.losses, field) for each in some) for field in Losses.__dataclass_fields__]
        slow = (f"{statistics.median(times):.1f}", f"{times[-1]:.1f}") if times else (ABSENT, ABSENT)
        recovered = f"{len(times)} of {len(some)}"
        rows.append((name, recovered, *map(str, lost), *slow))
    columns = (what, "recovered", "rounds lost", "double counts", "ledger under", "median s", "longest s")
    return Figures(title, columns, tuple(rows), notes)
