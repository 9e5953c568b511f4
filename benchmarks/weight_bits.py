"""Weights at 8, 4, 3 and 2 bits: trained with them (QAT) against rounded to them afterwards (PTQ), with and without DP.

    python benchmarks/weight_bits.py --seeds 3

Ten clients train a small convolutional net on MNIST, whose convolutions are trained, for here bits matter. PTQ is a
float twin of its own: trained with fake-quant off for the same rounds, steps and epsilon, then lowered at each width.
Figures are those of the integer artefact in its runtime; narrow weights lie in int8 containers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from shared.experiments import LAST_ROUND_ONLY, Experiment, run_all
from shared.printing import Figures, as_points, show

from fl_core.config import Config
from fl_core.config.federation import federation_of
from fl_core.config.load import from_plain
from fl_core.errors import ExportError, RunFolderError
from fl_server.plan.setup import Setup
from fl_server.results.model import Model, Nets
from fl_server.results.observer import Published
from fl_server.results.publish import Publication, make_artifacts
from fl_server.rounds.checkpoint import load_checkpoint

BITS = (8, 4, 3, 2)
SETTINGS: dict[str, dict[str, Any]] = {
    "no DP": {
        "rounds": 6,
        "clients": {"batch_size": 32, "local_epochs": 1, "optimizer": {"learning_rate": 0.05, "momentum": 0.9}},
        "privacy": None,
    },
    "DP, epsilon 8": {
        "rounds": 20,
        "clients": {"sample_rate": 0.25, "local_steps": 2, "optimizer": {"learning_rate": 4.0}},
        "privacy": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0},
    },
}
"""Both kinds of training; epsilon is per example and for the whole run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-weight-bits"))
    parser.add_argument("--markdown", action="store_true", help="print a table that can be pasted into a text")
    args = parser.parse_args()
    seeds = range(1, args.seeds + 1)
    settings = list(SETTINGS)
    twins = {
        (s, n): Experiment(f"{slug(s)}/float", config_of(s, n, bits=8, qat=False)) for s in settings for n in seeds
    }
    trained = {
        (s, n, bits): Experiment(f"{slug(s)}/qat-{bits}", config_of(s, n, bits, qat=True))
        for s in settings
        for n in seeds
        for bits in BITS
    }
    outcomes = iter(run_all([*twins.values(), *trained.values()], args.out, args.workers, Console(stderr=True)))
    floats = {key: next(outcomes).floating for key in twins}
    qat = {key: next(outcomes).int8 for key in trained}
    ptq = {(*key, bits): lowered_accuracy(each, args.out, bits) for key, each in twins.items() for bits in BITS}
    rows = [("float twin", *cells([(as_points([floats[s, n] for n in seeds]), "") for s in settings]))]
    for bits in BITS:
        pairs = [
            (as_points([ptq[s, n, bits] for n in seeds]), as_points([qat[s, n, bits] for n in seeds])) for s in settings
        ]
        rows.append((f"{bits} bit", *cells(pairs)))
    columns = ("weights", *(f"{kind}, {setting}" for setting in settings for kind in ("PTQ", "QAT")))
    notes = ("Percent of the server's test set, mean ± standard deviation over seeds; activations have 8 bits.",)
    show([Figures("Weight bits: MNIST, 10 clients, trained CNN", columns, tuple(rows), notes)], args.markdown)


def config_of(setting: str, seed: int, bits: int, qat: bool) -> Config:
    """The run of a setting: quantization-aware, or its float twin."""
    asked = SETTINGS[setting]
    return from_plain(
        {
            "run": {"name": "weight-bits", "seed": seed, "rounds": asked["rounds"]},
            "data": {"name": "mnist", "partition": {"kind": "iid", "clients": 10}},
            "model": {"name": "image_cnn", "args": {"width": 8}},
            "clients": asked["clients"],
            "quant": {"enabled": qat, "weight_bits": bits},
            "privacy": asked["privacy"],
            "export": {"every": LAST_ROUND_ONLY},
        }
    )


def lowered_accuracy(twin: Experiment, out: Path, bits: int) -> float:
    """The artefact's accuracy when the weights that ``twin`` ended with are lowered at ``bits`` bits.

    Raises:
        RunFolderError: the run has no checkpoint.
        ExportError: the artefact was vetoed; the reason stands in its folder.
    """
    folder = twin.folder(out)
    checkpoint = load_checkpoint(folder / "checkpoint")
    if checkpoint is None:
        raise RunFolderError(f"{folder}: expected a checkpoint, found none")
    config = replace(twin.config, quant=replace(twin.config.quant, weight_bits=bits))
    setup = Setup.of(config, federation_of(config))
    publication = Publication(setup, Model(setup.spec, checkpoint.state.model), config.run.rounds)
    lowered = folder / f"lowered-{bits}"
    made = next(make_artifacts(publication, Nets(setup.spec, config.run.seed), lowered), None)
    if not isinstance(made, Published) or made.artifact.accuracy is None:
        raise ExportError(f"{lowered}: expected an artefact at {bits} bits, got {made}")
    return made.artifact.accuracy


def cells(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The pairs of a row, one after the other."""
    return (cell for pair in pairs for cell in pair)


def slug(setting: str) -> str:
    """A setting as the name of a folder."""
    return setting.replace(",", "").replace(" ", "-").lower()


if __name__ == "__main__":
    main()
