"""20 clients of which 4 attack: accuracy that each attack costs under each robust strategy, FedAvg beside them.

All of it twice: with the digits dealt evenly, where honest updates resemble each other, and by Dirichlet, where every
client has its own mixture of classes and an honest update may look like a lie.

The attackers see all honest updates and tune their strength against the strategy at hand in every round. Loss is the
accuracy of FedAvg without attackers on the same deal minus that of the attacked run, in points: what honest rounds
would have given and did not. One small net on handwritten digits, without privacy; every pair is a run folder of its
own, used again when it is finished and gone on with when it is not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table
from shared.experiments import CONFIGS, LAST_ROUND_ONLY, Experiment, read_outcome, run_one
from torch import nn

from fl_core.config import load_config
from fl_core.models.start import he_start, ranged_logits, ranged_relu

CLIENTS, ATTACKERS = 20, 4
ROOT = f"client-{CLIENTS:02d}"
"""The client that the operator runs, for FLTrust alone: one more than the others'."""
ALLOWED_LOSS = 5.0
"""Points that the best robust strategy may lose to any attack."""

DEALS: Mapping[str, str] = {"even": "kind: iid", "uneven": "kind: dirichlet, alpha: 0.3"}
"""How the digits are dealt to the clients: the fields of ``data.partition``."""
ATTACKS = ("none", "sign_flip", "ipm", "alie", "min_max", "label_flip", "gaussian", "nan")
_F = {"byzantine": ATTACKERS}


def _nnm(name: str, **args: Any) -> dict[str, Any]:
    return {"name": "nnm", "args": {**_F, "inner": {"name": name, "args": args}}}


STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "nnm+trimmed_mean": _nnm("trimmed_mean", **_F),
    "nnm+geometric_median": _nnm("geometric_median"),
    "multikrum": {"name": "multikrum", "args": _F},
    "trimmed_mean": {"name": "trimmed_mean", "args": _F},
    "median": {"name": "median"},
    "geometric_median": {"name": "geometric_median"},
    "dnc": {"name": "dnc", "args": _F},
    "bulyan": {"name": "bulyan", "args": _F},
    "centered_clipping": {"name": "centered_clipping", "args": {"radius": 1.0}},
    "norm_bound": {"name": "norm_bound", "args": {"max_norm": 1.0}},
    "krum": {"name": "krum", "args": _F},
    "fltrust": {"name": "fltrust", "args": {"root": ROOT}},
}


def small_net(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """From images [B, C, H, W] to [B, outputs] through one hidden layer of 32."""
    channels, height, width = input_shape
    hidden = nn.Linear(channels * height * width, 32)
    return he_start(nn.Sequential(nn.Flatten(), hidden, ranged_relu(), ranged_logits(32, outputs)))


def attacked_run(deal: str, strategy: str, attack: str, seed: int) -> Experiment:
    """The run of one strategy under one attack, on digits dealt in one of the ways of ``DEALS``."""
    overrides = [
        "run={name: robust, rounds: 6, companion: null}", f"run.seed={seed}", f"export.every={LAST_ROUND_ONLY}",
        f"data.partition={{{DEALS[deal]}, clients: {CLIENTS + (strategy == 'fltrust')}}}",
        "model={name: null, factory: 'robust:small_net'}", "privacy=null",
        "clients={batch_size: 40, local_epochs: 1, sample_rate: null, local_steps: null}",
        "clients.optimizer={learning_rate: 0.1, momentum: 0.9}", f"strategy={dict(STRATEGIES[strategy])}",
    ]  # fmt: skip
    if attack != "none":
        overrides.append(f"simulation.attack={{name: {attack}, clients: {ATTACKERS}}}")
    return Experiment(f"{deal}/{strategy}/{attack}", load_config(CONFIGS / "mnist.yaml", overrides))


PointsLost = Mapping[str, Mapping[str, float]]
"""Points lost, by strategy and attack."""


def losses(deal: str, strategies: Sequence[str], seed: int, out: Path, console: Console) -> PointsLost:
    """Points lost on one deal of the digits."""
    reached: dict[str, dict[str, float]] = {}
    for strategy in dict.fromkeys(["fedavg", *strategies]):
        for attack in ATTACKS:
            each = attacked_run(deal, strategy, attack, seed)
            run_one(each, out)
            accuracy = read_outcome(each, out).floating
            if accuracy is None:
                raise SystemExit(f"{each.folder(out)}: expected an accuracy, found none")
            reached.setdefault(strategy, {})[attack] = accuracy
            console.print(f"{deal}, {strategy} under {attack}: {accuracy:.3f}", highlight=False)
    honest = reached["fedavg"]["none"]
    console.print(f"{deal}, honest FedAvg: {honest:.3f}", highlight=False)
    return {s: {a: 100 * (honest - accuracy) for a, accuracy in row.items()} for s, row in reached.items()}


def worst_of(row: Mapping[str, float]) -> tuple[float, str]:
    """The most that a strategy lost to any attack, and to which."""
    return max((lost, attack) for attack, lost in row.items())


def loss_table(even: PointsLost, uneven: PointsLost) -> Table:
    """Every attack on even deals; of uneven ones what is lost without an attacker, and to the worst attack."""
    title = f"{ATTACKERS} of {CLIENTS} clients attack, byzantine: {ATTACKERS}"
    table = Table("points lost to", *ATTACKS, "worst", "uneven: none", "uneven: worst", title=title)
    for strategy, row in even.items():
        cells = [f"{row[attack]:.1f}" for attack in ATTACKS]
        lost, attack = worst_of(uneven[strategy])
        table.add_row(
            strategy, *cells, f"{worst_of(row)[0]:.1f}", f"{uneven[strategy]['none']:.1f}", f"{lost:.1f} ({attack})"
        )
    return table


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/robust"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strategies", nargs="+", choices=sorted(STRATEGIES), default=list(STRATEGIES))
    given = parser.parse_args()
    console = Console(stderr=True)
    even, uneven = (losses(deal, given.strategies, given.seed, given.out, console) for deal in DEALS)
    Console(width=150).print(loss_table(even, uneven))
    worst = {strategy: worst_of(row)[0] for strategy, row in even.items() if strategy != "fedavg"}
    if worst:
        best = min(worst, key=lambda strategy: worst[strategy])
        print(f"best on an even deal: {best} loses at most {worst[best]:.1f} points ({ALLOWED_LOSS:g} allowed)")
        sys.exit(worst[best] > ALLOWED_LOSS)


if __name__ == "__main__":
    main()
