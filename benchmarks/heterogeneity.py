"""Do strategies for unlike clients help? SCAFFOLD, FedDyn, FedNova, Ditto and FedPer against FedAvg, over seeds.

    python benchmarks/heterogeneity.py --seeds 3

Digits: 10 clients dealt by Dirichlet(0.1), a small convolutional net, no DP; the artefact on the server's test set.
People: the smartwatch's wearers; each client's model on its own held-out part, which for FedAvg is the common model.
Every row is compared with FedAvg of the same seeds, where it helps and where it does not. Hyperparameters are the ones
below; none was tuned on these figures. Finished runs in --out are used again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from shared.experiments import Experiment, ExperimentOutcome, experiment, run_all
from shared.paired import difference
from shared.printing import Figures, as_points, show

from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.watch.state import state_of
from fl_server.watch.words import ABSENT

DIGITS = (
    "data.partition.kind=dirichlet",
    "data.partition.alpha=0.1",
    "clients.batch_size=32",
    "clients.local_epochs=5",
    "clients.optimizer.momentum=0",
    "clients.optimizer.learning_rate=0.1",
    "clients.optimizer.schedule=constant",
)
"""Plain SGD at a constant rate for five epochs, as in the papers, so that no other remedy hides the drift."""
PEOPLE = ("clients.local_epochs=1",)


@dataclass(frozen=True)
class StrategyRow:
    """A strategy on one of the two federations."""

    config: str
    overrides: tuple[str, ...]
    strategy: str
    args: Mapping[str, Any]


def digits(strategy: str, **args: Any) -> StrategyRow:
    """A row on MNIST, Dirichlet(0.1)."""
    return StrategyRow("mnist_no_dp.yaml", DIGITS, strategy, args)


def people(strategy: str, **args: Any) -> StrategyRow:
    """A row on the smartwatch people."""
    return StrategyRow("quickstart_no_dp.yaml", PEOPLE, strategy, args)


ROWS: Mapping[str, StrategyRow] = {
    "digits_fedavg": digits("fedavg"),
    "digits_scaffold": digits("scaffold"),
    "digits_feddyn": digits("feddyn", alpha=0.1),
    "digits_fednova": digits("fednova"),
    "people_fedavg": people("fedavg"),
    "people_ditto": people("ditto", strength=0.1),
    "people_fedper": people("fedper"),
    "people_finetune": people("finetune", epochs=1),
}
TARGET = 0.8
"""Accuracy on the digits whose first round is told."""


@dataclass(frozen=True)
class RunFigures:
    """What one run came to; None where it has no such figure."""

    common: float | None
    """Of the artefact on the server's test set (digits)."""
    own_mean: float | None
    """Of what each client would use, on its own held-out part."""
    own_worst: float | None
    rounds_to_target: int | None
    bytes_up: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(ROWS), default=tuple(ROWS))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-heterogeneity"))
    parser.add_argument("--markdown", action="store_true", help="print tables that can be pasted into a text")
    args = parser.parse_args()
    plan = [experiment_of(name, seed) for name in args.only for seed in range(1, args.seeds + 1)]
    outcomes = run_all(plan, args.out, args.workers, Console(stderr=True))
    found: dict[str, list[RunFigures]] = {}
    for each, outcome in zip(plan, outcomes, strict=True):
        found.setdefault(each.row, []).append(finding(each.folder(args.out), outcome))
    show([digits_table(found), people_table(found)], args.markdown)


def experiment_of(name: str, seed: int) -> Experiment:
    """The run of a row and a seed."""
    row = ROWS[name]
    chosen = [f"strategy.name={row.strategy}", *(f"strategy.args.{key}={value}" for key, value in row.args.items())]
    return experiment(name, row.config, [*row.overrides, *chosen], seed)


def finding(folder: Path, outcome: ExperimentOutcome) -> RunFigures:
    """The figures of a finished run."""
    state = state_of(read_events(folder))
    personal = dict(series.personal_scores(state)) or outcome.own_int8
    reached = (
        number
        for number, record in state.evaluations()
        if number and (record.get("accuracy_fake_quant") or 0.0) >= TARGET
    )
    return RunFigures(
        common=outcome.int8,
        own_mean=sum(personal.values()) / len(personal) if personal else None,
        own_worst=min(personal.values(), default=None),
        rounds_to_target=next(reached, None),
        bytes_up=json.loads((folder / "summary.json").read_text(encoding="utf-8"))["bytes_up"],
        seconds=outcome.seconds,
    )


def digits_table(found: Mapping[str, Sequence[RunFigures]]) -> Figures:
    """The common model on the server's test set."""
    rows = []
    for name, each in found.items():
        if name.startswith("digits"):
            reached = [one.rounds_to_target for one in each]
            rounds = ", ".join(ABSENT if number is None else str(number) for number in reached)
            plain = [one.common for one in found.get("digits_fedavg", ())]
            same = [one.common for one in each]
            rows.append((name, as_points(same), against(same, plain), rounds, *costs(each)))
    columns = ("strategy", "int8, test set", "against FedAvg", f"rounds to {TARGET:.0%}", "MB up a run", "seconds")
    return Figures("MNIST at 10 clients, Dirichlet(0.1), no DP", columns, tuple(rows), (NOTE,))


def people_table(found: Mapping[str, Sequence[RunFigures]]) -> Figures:
    """Everybody's own held-out part, answered by what that person would use."""
    rows = []
    plain = found.get("people_fedavg", ())
    for name, each in found.items():
        if name.startswith("people"):
            means, worsts = [one.own_mean for one in each], [one.own_worst for one in each]
            rows.append((
                name, as_points(means), against(means, [one.own_mean for one in plain]),
                as_points(worsts), against(worsts, [one.own_worst for one in plain]), *costs(each),
            ))  # fmt: skip
    columns = (
        "strategy", "own parts: mean", "against FedAvg", "own parts: worst client", "against FedAvg", "MB up a run",
        "seconds",
    )  # fmt: skip
    return Figures("Smartwatch, each wearer's own held-out part, no DP", columns, tuple(rows), (NOTE,))


NOTE = (
    "Percent, mean ± standard deviation over seeds; differences in points, paired over seeds, with the 95 % interval "
    "of Student's t. Seconds are of runs that shared the machine."
)


def costs(each: Sequence[RunFigures]) -> tuple[str, str]:
    """Megabytes up and seconds, the means over seeds."""
    mb = sum(one.bytes_up for one in each) / len(each) / 1e6
    return f"{mb:.1f}", f"{sum(one.seconds for one in each) / len(each):.0f}"


def against(values: Sequence[float | None], plain: Sequence[float | None]) -> str:
    """The paired difference in points; without an interval where there is one seed."""
    pairs = [(a, b) for a, b in zip(values, plain, strict=False) if a is not None and b is not None]
    if not pairs or list(values) == list(plain):
        return ABSENT
    if len(pairs) == 1:
        return f"{100 * (pairs[0][0] - pairs[0][1]):+.1f}"
    found = difference([a for a, _ in pairs], [b for _, b in pairs])
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


if __name__ == "__main__":
    main()
