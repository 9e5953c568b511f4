"""Kill a process that writes a privacy ledger, again and again, and count what was lost.

A child reserves and settles in a loop and says so on its standard output only after each call has returned. It is
killed with SIGKILL at random moments. Everything that it said must be in the ledger afterwards, the ledger must never
count less than that, and its hash chain must hold. Run it as

    python benchmarks/ledger_kills.py --kills 300
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_DATASET = "data"
_LONGEST_LIFE_S = 0.3
_CHILD = """
import sys
from pathlib import Path
from fl_core.privacy.accountant import rdp
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms

path, life = Path(sys.argv[1]), sys.argv[2]
terms = DpTerms(1000.0, 1e-5, clip_norm=1.0, noise_multiplier=20.0, sample_rate=0.1, steps=10, normaliser=1.0)
policy = DevicePolicy(1000.0, 1e-5, max_clip_norm=1.0, min_noise_multiplier=1.0, max_sample_rate=1.0)
rdp(0.1, 20.0, 10)  # the slow first time, before the clock of the kill starts
print("ready", flush=True)
ledger = Ledger(path)
ledger.enrol("data", 1)
number = 0
while True:
    task = f"{life}.{number}"
    ledger.reserve("data", task, terms, policy)
    print("reserved", task, flush=True)
    ledger.settle("data", task, task.encode() * 500, b"state")
    print("settled", task, flush=True)
    ledger.promote("data", task)
    number += 1
"""


@dataclass(frozen=True)
class LedgerKillReport:
    """What the kills did. Every count but the first three must be zero."""

    kills: int
    acknowledged: int
    """Reservations and settlements that the child was told are on disk."""
    over_counted: int
    """Reservations in the ledger whose process died before it was told: counted, which is the safe side."""
    lost: int
    """Acknowledged entries that are missing."""
    under_counted: int
    """Kills after which the ledger held less Renyi divergence than was acknowledged."""
    broken_chains: int
    seconds: float


def kill_ledger_writers(path: Path, kills: int, seed: int) -> LedgerKillReport:
    """Kill ``kills`` writers of one ledger file, looking at it after each.

    Raises:
        RuntimeError: a child ended by itself.
    """
    import numpy as np

    from fl_core.errors import LedgerError
    from fl_core.privacy.accountant import rdp
    from fl_core.privacy.ledger import Ledger

    chance, start = random.Random(seed), time.monotonic()
    acknowledged: list[tuple[str, str]] = []
    lost = under_counted = broken = held = 0
    for life in range(kills):
        acknowledged += _one_life(path, life, chance.uniform(0.0, _LONGEST_LIFE_S))
        try:
            ledger = Ledger(path)  # opening it verifies the chain
        except LedgerError:
            broken += 1
            continue
        kinds = {"reserve": "reserved", "settle": "settled"}
        entries = {(kinds[e.kind], e.task_id) for e in ledger.history(_DATASET) if e.kind in kinds}
        reserved = sum(kind == "reserved" for kind, _ in acknowledged)
        lost = max(lost, len(set(acknowledged) - entries))
        expected = rdp(0.1, 20.0, 10) * reserved
        under_counted += not bool(np.all(ledger.rdp(_DATASET) >= expected * (1 - 1e-9)))
        held = sum(kind == "reserved" for kind, _ in entries) - reserved
        ledger.close()
    return LedgerKillReport(kills, len(acknowledged), held, lost, under_counted, broken, time.monotonic() - start)


def _one_life(path: Path, life: int, seconds: float) -> list[tuple[str, str]]:
    """Start a writer, kill it some time after it opens the ledger, and return what it was told is on disk."""
    command = [sys.executable, "-c", _CHILD, str(path), str(life)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert child.stdout is not None
    with child.stdout as said:
        if said.readline() != "ready\n":
            raise RuntimeError(f"the writer of life {life} did not start")
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        lines = said.read().split("\n")
    if child.wait() != -signal.SIGKILL:
        raise RuntimeError(f"the writer of life {life} ended by itself with exit code {child.returncode}")
    # What stands behind the last line break was cut off by the kill, and so was never said.
    return [(word, task) for word, task in (line.split() for line in lines[:-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = kill_ledger_writers(Path(folder) / "ledger.db", options.kills, options.seed)
    for name, value in vars(report).items():
        print(f"{name:<16}{value:>10.1f}" if isinstance(value, float) else f"{name:<16}{value:>10}")
    sys.exit(1 if report.lost or report.under_counted or report.broken_chains else 0)


if __name__ == "__main__":
    main()
