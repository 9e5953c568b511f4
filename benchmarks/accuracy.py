"""Accuracy of every shipped config over seeds: float, int8 in its runtime, own held-out parts, unseen people, bounds.

    python benchmarks/accuracy.py --seeds 5

Prints means with standard deviations, the paired comparison of int8 with the float model of the same run, and the
distances to the bounds: everybody's data in one place, and everybody alone. Finished runs in --out are used again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from experiments import CONFIGS, Experiment, Outcome, experiment, run_all
from joined import OWN, UNSEEN
from paired import Difference, difference
from printing import Figures, as_points, show
from rich.console import Console

from fl_core.config import load_config
from fl_core.data.smartwatch import smartwatch
from fl_server.report.show import ABSENT

SHIPPED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "quickstart": ("quickstart.yaml", ()),
    "quickstart_no_dp": ("quickstart_no_dp.yaml", ()),
    "mnist": ("mnist.yaml", ()),
    "mnist, epsilon 3": ("mnist.yaml", ("privacy.epsilon=3",)),
    "mnist, epsilon 1": ("mnist.yaml", ("privacy.epsilon=1",)),
    "mnist_no_dp": ("mnist_no_dp.yaml", ()),
    "mnist_dirichlet": ("mnist_dirichlet.yaml", ()),
    # The same steps on whole data sets; a client has at most some thousand examples.
    "mnist_dirichlet, its twin without DP": (
        "mnist_dirichlet.yaml",
        ("privacy=null", "clients.sample_rate=null", "clients.batch_size=5000"),
    ),
}
"""Rows of the table: a config and its overrides."""
POOLED, ALONE = "pooled", "local only"
BOUNDED = "quickstart_no_dp.yaml"
"""The config whose model the bounds train."""
SEVERAL: Mapping[str, float] = {"int8 and float": 0.005}
"""How far int8 may be below float, at 95 % confidence."""

Figure = Callable[[Outcome], "float | None"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names(), default=names(), help=", ".join(names()))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-accuracy"))
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    planned = [each for name in args.only for seed in range(1, args.seeds + 1) for each in plan(name, seed)]
    outcomes = run_all(planned, args.out, args.workers, Console(stderr=True))
