"""Measures what a round costs besides training: three devices, TLS through the gateway, a model that trains in no time.

    python benchmarks/round_overhead.py --rounds 10

Prints the length of a round (median, longest, each) and where it goes. Each part is timed on the way of the message
that came back last, so the parts sum to the round; ``round_phases.py`` says how they are found.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from shared.printing import show
from shared.round_phases import read_stamps, table_of, ways
from torch import nn

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.privacy.ledger import Ledger
from fl_core.runlog import read_events
from simulation.local_fleet import LocalFleet as LocalFederation
from simulation.local_fleet import run_federation

SHAPE, EXAMPLES = (4,), 16


def data(people: int = 3) -> Federation:
    """As good as no data: so a client's work is what remains when there is nothing to learn."""
    draw = np.random.default_rng(0)

    def examples() -> Examples:
        x = draw.uniform(-1, 1, (EXAMPLES, *SHAPE)).astype(np.float32)
        return Examples(x, (x[:, 0] > 0).astype(np.int64))

    names = [f"person-{number:02d}" for number in range(1, people + 1)]
    return Federation({name: ClientData(examples()) for name in names}, test=examples(), labels=("no", "yes"))


def model(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Ten parameters."""
    return nn.Sequential(nn.Linear(input_shape[0], outputs))


def reserved_s(federation: LocalFederation, person: str) -> list[float]:
    """When a device set privacy aside for each of its tasks, in seconds since 1970."""
    ledger = Ledger(federation.home(person) / "ledger.sqlite")
    try:
        return [float(entry.body["time_s"]) for entry in ledger.history(person) if entry.kind == "reserve"]
    finally:
        ledger.close()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # everything is taken down then, too
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join((str(here / "inject" / "stamped"), str(here), *filter(None, sys.path)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config = {
        "run": {"name": "overhead", "rounds": options.rounds},
        "data": {"factory": "round_overhead:data"},
        "model": {"factory": "round_overhead:model"},
        "clients": {"sample_rate": 1.0, "local_steps": 1},
        "privacy": {"epsilon": 8.0},
        "export": {"formats": []},
    }
    device = {"data": {"factory": "round_overhead:data"}, "factories": ["round_overhead:model"]}
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        path, stamps = Path(folder) / "overhead.yaml", Path(folder) / "stamps"
        os.environ["STONECROP_STAMPS"] = str(stamps)
        path.write_text(yaml.safe_dump(config))
        people = [f"person-{number:02d}" for number in (1, 2, 3)]
        federation = LocalFederation(Path(folder) / "federation", path, people, (), device)
        events = list(read_events(run_federation(federation, lambda line: print(line, file=sys.stderr))))
        found = ways(events, read_stamps(stamps), {person: reserved_s(federation, person) for person in people})
    seconds = [event["seconds"] for event in events if event["kind"] == "round_finished"]
    print(f"rounds {len(seconds)}, 3 devices, TLS and certificates")
    print(f"a round: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
    print("each:", " ".join(f"{value:.1f}" for value in seconds), end="\n\n")
    show([table_of(found)], options.markdown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
