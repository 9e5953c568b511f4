"""Accuracy of every shipped config over seeds: float, int8 in its runtime, own held-out parts, unseen people, bounds.

    python benchmarks/accuracy.py --seeds 5

Prints means with standard deviations, the paired comparison of int8 with the float model of the same run, and the
distances to the bounds: everybody's data in one place, and everybody alone. Finished runs in --out are used again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean

from rich.console import Console
from shared.experiments import CONFIGS, Experiment, ExperimentOutcome, experiment, run_all
from shared.joined import OWN, UNSEEN
from shared.paired import Difference, difference
from shared.printing import Figures, as_points, show

from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_server.watch.words import ABSENT

CONFIG_OF: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "quickstart": ("quickstart.yaml", ()),
    "quickstart_no_dp": ("quickstart_no_dp.yaml", ()),
    "mnist": ("mnist.yaml", ()),
    "mnist_epsilon_3": ("mnist.yaml", ("privacy.epsilon=3", "clients.optimizer.learning_rate=16")),
    "mnist_epsilon_1": ("mnist.yaml", ("privacy.epsilon=1", "clients.optimizer.learning_rate=8", "run.rounds=20")),
    "mnist_no_dp": ("mnist_no_dp.yaml", ()),
    "mnist_dirichlet": ("mnist_dirichlet.yaml", ()),
    # As many steps, each on all examples of a client: no client has 5000.
    "mnist_dirichlet_twin": (
        "mnist_dirichlet.yaml",
        ("privacy=null", "clients.sample_rate=null", "clients.batch_size=5000"),
    ),
    "mnist_async": ("mnist_async.yaml", ()),
    "fleet": ("fleet.yaml", ()),
    "quickstart_no_dp_float": ("quickstart_no_dp.yaml", ("quant.enabled=false",)),
    "mnist_no_dp_float": ("mnist_no_dp.yaml", ("quant.enabled=false",)),
}
"""Rows of the table: a shipped config and what is changed in it."""
FLOAT_TWIN_OF: Mapping[str, str] = {
    "quickstart_no_dp": "quickstart_no_dp_float",
    "mnist_no_dp": "mnist_no_dp_float",
}
"""Runs that never saw rounding, trained as long: what quantization costs in all. They differ from their partner by
chance as well, from seed to seed."""
POOLED, ALONE = "pooled", "local_only"
BOUNDED = "quickstart_no_dp"
"""The row whose model, rounds and steps the bounds have."""
NAMES = (*CONFIG_OF, POOLED, ALONE)
INT8_MARGIN = 0.005
"""How far int8 may be below float at 95 % confidence."""

Figure = Callable[[ExperimentOutcome], "float | None"]
Runs = Mapping[str, Sequence[ExperimentOutcome]]


def test_set(outcome: ExperimentOutcome) -> float | None:
    """The artefact on the server's test set."""
    return outcome.int8


def own_parts(outcome: ExperimentOutcome) -> float | None:
    """The artefact on the clients' own held-out parts, the mean over clients."""
    return fmean(outcome.own_int8.values()) if outcome.own_int8 else None


def own_parts_float(outcome: ExperimentOutcome) -> float | None:
    """The same weights with fake-quant off, there."""
    return fmean(outcome.own_float.values()) if outcome.own_float else None


def unseen_people(outcome: ExperimentOutcome) -> float | None:
    """The artefact on people who trained nowhere, the mean over people."""
    return fmean(outcome.groups.values()) if outcome.groups else None


FIGURES: Mapping[str, Figure] = {"test set": test_set, "own parts": own_parts, "unseen people": unseen_people}


@dataclass(frozen=True)
class Distance:
    """A comparison of two rows, and how far the first may be below the second in the mean (None: as it comes)."""

    first: str
    second: str
    on: str
    margin: float | None


DISTANCES = (
    Distance("quickstart_no_dp", POOLED, "own parts", 0.05),
    Distance("quickstart", POOLED, "own parts", None),
    Distance("quickstart_no_dp", ALONE, "own parts", None),
    Distance("quickstart_no_dp", ALONE, "unseen people", None),
    Distance("quickstart", "quickstart_no_dp", "own parts", None),
    Distance("quickstart", "quickstart_no_dp", "unseen people", None),
    Distance("mnist", "mnist_no_dp", "test set", None),
    Distance("mnist_dirichlet", "mnist_dirichlet_twin", "test set", 0.04),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-accuracy"))
    parser.add_argument("--markdown", action="store_true", help="print tables that can be pasted into a text")
    args = parser.parse_args()
    seeds = range(1, args.seeds + 1)
    plan = {(name, seed): experiments_of(name, seed) for name in args.only for seed in seeds}
    flat = [each for group in plan.values() for each in group]
    found = iter(run_all(flat, args.out, args.workers, Console(stderr=True)))
    outcomes = {key: [next(found) for _ in group] for key, group in plan.items()}
    runs = {name: [as_one(name, outcomes[name, seed]) for seed in seeds] for name in args.only}
    show([table_of(runs), int8_against_float(runs), distances_of(runs)], args.markdown)


def experiments_of(name: str, seed: int) -> list[Experiment]:
    """What is run for a row and a seed: one run, or one a person where everybody is alone."""
    if name in CONFIG_OF:
        return [experiment(name, *CONFIG_OF[name], seed)]
    config, overrides = CONFIG_OF[BOUNDED]
    base = load_config(CONFIGS / config, overrides)
    people = sorted(federation_of(base).clients)
    bound = [*overrides, "data.name=null", "data.factory=joined:joined_smartwatch"]
    if name == ALONE:
        return [experiment(f"{ALONE}/{who}", config, [*bound, f"data.args.people=[{who}]"], seed) for who in people]
    if base.clients.local_steps is not None:  # of each person, so that everybody's epochs stay the same
        bound.append(f"clients.local_steps={base.clients.local_steps * len(people)}")
    return [experiment(POOLED, config, bound, seed)]


def as_one(name: str, outcomes: Sequence[ExperimentOutcome]) -> ExperimentOutcome:
    """One seed's outcome of a row; that of a bound is told by person, as a federation's is.

    Where everybody is alone, a person's own part is answered by that person's model, and an unseen person has the mean
    over all models.
    """
    if name in CONFIG_OF:
        return outcomes[0]
    groups = outcomes[0].groups
    people = [group.removeprefix(OWN) for group in groups if group.startswith(OWN)]
    model_of = dict(zip(people, outcomes, strict=True)) if name == ALONE else dict.fromkeys(people, outcomes[0])
    unseen = [group for group in groups if group.startswith(UNSEEN)]
    return replace(
        outcomes[0],
        row=name,
        int8=None,
        floating=None,
        initial=None,
        own_int8={who: model.groups[OWN + who] for who, model in model_of.items()},
        groups={who.removeprefix(UNSEEN): fmean([one.groups[who] for one in outcomes]) for who in unseen},
        agreement=min((one.agreement for one in outcomes if one.agreement is not None), default=None),
        max_lsb=max((one.max_lsb for one in outcomes if one.max_lsb is not None), default=None),
        float_kernels=sum(one.float_kernels for one in outcomes),
        vetoes=tuple(veto for one in outcomes for veto in one.vetoes),
        seconds=math.fsum(one.seconds for one in outcomes),
    )


def table_of(runs: Runs) -> Figures:
    """One row a config: mean and standard deviation over the seeds, in percent."""
    columns = (
        "config", "int8, test set", "float, test set", "own parts: mean", "own parts: worst client",
        "unseen people: mean", "unseen people: worst", "least top-1 agreement", "most LSB", "float kernels", "epsilon",
        "seconds",
    )  # fmt: skip
    notes = [
        "Percent, mean ± standard deviation over seeds. All but the second column is the int8 artefact in its runtime. "
        "Seconds are of runs that shared the machine."
    ]
    rows = []
    for name, outcomes in runs.items():
        agreements = [one.agreement for one in outcomes if one.agreement is not None]
        lsb = [one.max_lsb for one in outcomes if one.max_lsb is not None]
        epsilons = [one.epsilon for one in outcomes if one.epsilon is not None]
        rows.append((
            name,
            as_points([one.int8 for one in outcomes]),
            as_points([one.floating for one in outcomes]),
            as_points([own_parts(one) for one in outcomes]),
            as_points([min(one.own_int8.values(), default=None) for one in outcomes]),
            as_points([unseen_people(one) for one in outcomes]),
            as_points([min(one.groups.values(), default=None) for one in outcomes]),
            f"{100 * min(agreements):.1f}" if agreements else ABSENT,
            str(max(lsb)) if lsb else ABSENT,
            str(sum(one.float_kernels for one in outcomes)),
            f"{max(epsilons):.2f}" if epsilons else "no DP",
            f"{fmean([one.seconds for one in outcomes]):.0f}",
        ))  # fmt: skip
        notes += [f"{name}, seed {one.seed}: vetoed: {veto}" for one in outcomes for veto in one.vetoes]
    return Figures("Accuracy of the shipped configs", columns, tuple(rows), tuple(notes))


def int8_against_float(runs: Runs) -> Figures:
    """Is the artefact worse than the float model of the same run, or than one that was trained in float?"""
    columns = (
        "config",
        "float model",
        "on",
        "int8 - float",
        "95 % interval",
        "lower bound",
        "not worse by more than 0.5 points",
    )
    float_of: Mapping[str, Figure] = {"test set": lambda one: one.floating, "own parts": own_parts_float}
    rows = []
    for name in (name for name in runs if name in CONFIG_OF and name not in FLOAT_TWIN_OF.values()):
        for other, on in product((name, FLOAT_TWIN_OF.get(name)), float_of):
            int8 = known([FIGURES[on](one) for one in runs[name]])
            floats = known([float_of[on](one) for one in runs.get(other or "", ())])
            if len(int8) == len(floats) > 1:
                found = difference(int8, floats)
                held = "yes" if found.not_worse_by(INT8_MARGIN) else "NO"
                whose = "itself, fake-quant off" if other == name else "trained in float"
                rows.append((name, whose, on, *in_points(found), signed(found.lower_bound), held))
    notes = "Points; Student's t over the seeds; the lower bound is one-sided, at 95 % confidence."
    return Figures("int8 in its runtime against float", columns, tuple(rows), (notes,))


def distances_of(runs: Runs) -> Figures:
    """How far rows are from each other, paired over seeds."""
    columns = ("first", "second", "on", "first - second", "95 % interval", "asked for", "holds")
    rows = []
    for distance in DISTANCES:
        figure = FIGURES[distance.on]
        pair = [known([figure(one) for one in runs.get(name, ())]) for name in (distance.first, distance.second)]
        if len(pair[0]) == len(pair[1]) > 1:
            found = difference(pair[0], pair[1])
            asked, holds = ABSENT, ABSENT
            if distance.margin is not None:
                asked = f"at least {signed(-distance.margin)}"
                holds = "yes" if found.mean >= -distance.margin else "NO"
            rows.append((distance.first, distance.second, distance.on, *in_points(found), asked, holds))
    notes = (
        f"{POOLED}: one client that holds everybody's training examples, trained as {BOUNDED} is, for as many epochs. "
        f"{ALONE}: each person trains alone, and is asked about their own part."
    )
    return Figures("Distances", columns, tuple(rows), (notes,))


def known(values: Sequence[float | None]) -> list[float]:
    """The values, or nothing where one is missing: pairs must stay pairs."""
    there = [value for value in values if value is not None]
    return there if len(there) == len(values) else []


def in_points(found: Difference) -> tuple[str, str]:
    """Mean and two-sided interval of a difference."""
    return signed(found.mean), f"{signed(found.low)} to {signed(found.high)}"


def signed(share: float) -> str:
    """0.0123 as "+1.23" points."""
    return f"{100 * share:+.2f}"


if __name__ == "__main__":
    main()
