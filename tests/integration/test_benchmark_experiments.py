"""What the accuracy benchmarks rest on: finished runs are used again, the last round's artefact does not depend on how
often one is made, the float twin of PTQ is trained in float, and the pooled bound sees everybody once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy
from shared.experiments import LAST_ROUND_ONLY, Experiment, ExperimentOutcome, read_outcome, run_one
from shared.joined import OWN, UNSEEN, joined_smartwatch
from weight_bits import lowered_accuracy

from fl_core.config import load_config
from fl_core.data.smartwatch import smartwatch
from fl_core.errors import ConfigError, RunFolderError
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint


def experiment(row: str, **sections: object) -> Experiment:
    return Experiment(row, toy.config(Path(), **sections))


def outcome(each: Experiment, out: Path) -> ExperimentOutcome:
    run_one(each, out)
    return read_outcome(each, out)


def weights(each: Experiment, out: Path) -> str:
    checkpoint = load_checkpoint(run_one(each, out) / "checkpoint")
    assert checkpoint is not None
    return digest(checkpoint.state.model)


def test_a_finished_run_of_the_same_config_is_used_again(tmp_path: Path) -> None:
    each = experiment("row")
    events = run_one(each, tmp_path) / "events.jsonl"
    before = events.stat().st_mtime_ns
    assert run_one(experiment("row", run={"out": "elsewhere"}), tmp_path) == events.parent
    assert events.stat().st_mtime_ns == before


def test_a_run_of_another_config_is_run_anew(tmp_path: Path) -> None:
    run_one(experiment("row", run={"rounds": 1}), tmp_path)
    assert load_config(run_one(experiment("row", run={"rounds": 2}), tmp_path) / "config.yaml").run.rounds == 2


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    each = experiment("row")
    each.folder(tmp_path).mkdir(parents=True)
    mine = each.folder(tmp_path) / "mine.txt"
    mine.write_text("keep")
    with pytest.raises(RunFolderError, match="left alone"):
        run_one(each, tmp_path)
    assert mine.read_text() == "keep"


@pytest.mark.parametrize("privacy", [None, {"epsilon": 8.0}])
def test_the_last_artefact_does_not_depend_on_how_often_one_is_made(tmp_path: Path, privacy: object) -> None:
    every = outcome(experiment("every", privacy=privacy), tmp_path)
    last = outcome(experiment("last", privacy=privacy, export={"every": LAST_ROUND_ONLY}), tmp_path)
    assert (last.int8, last.floating, last.own_int8, last.own_float, last.epsilon) == (
        every.int8, every.floating, every.own_int8, every.own_float, every.epsilon,
    )  # fmt: skip
    assert last.float_kernels == 0
    assert last.int8 is not None


def test_the_float_twin_knows_nothing_of_the_bits_that_it_is_rounded_to(tmp_path: Path) -> None:
    def quant(enabled: bool, bits: int) -> Experiment:
        return experiment(f"{enabled}-{bits}", quant={"enabled": enabled, "weight_bits": bits})

    twin = quant(False, 8)
    assert weights(twin, tmp_path) == weights(quant(False, 2), tmp_path)
    assert weights(quant(True, 8), tmp_path) != weights(quant(True, 2), tmp_path)
    assert weights(twin, tmp_path) != weights(quant(True, 8), tmp_path)
    for bits in (8, 2):  # and lowering the twin afterwards is what a run of that width exports
        exported = outcome(quant(False, bits), tmp_path).int8
        assert lowered_accuracy(twin, tmp_path, bits) == exported


def test_the_pooled_bound_trains_on_everybody_and_tests_each_person_once() -> None:
    base, pooled = smartwatch(), joined_smartwatch()
    assert len(pooled.clients["joined"].train) == sum(len(client.train) for client in base.clients.values())
    assert pooled.test is not None
    assert base.test is not None
    rows = np.concatenate(list(pooled.groups.values()))
    assert sorted(rows) == list(range(len(pooled.test)))
    for name, client in base.clients.items():
        assert client.test is not None
        np.testing.assert_array_equal(pooled.test.x[pooled.groups[OWN + name]], client.test.x)
    for name, own in base.groups.items():
        np.testing.assert_array_equal(pooled.test.x[pooled.groups[UNSEEN + name]], base.test.x[own])


def test_a_person_alone_trains_on_nobody_elses_examples() -> None:
    person = sorted(smartwatch().clients)[0]
    alone = joined_smartwatch(people=[person])
    np.testing.assert_array_equal(alone.clients["joined"].train.x, smartwatch().clients[person].train.x)
    with pytest.raises(ConfigError, match="nobody"):
        joined_smartwatch(people=["nobody"])
