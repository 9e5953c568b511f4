"""What a model and its task must be is said before a run: outputs, losses, weights, and norms that do nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy

from fl_core.errors import ConfigError, ModelError, StonecropError
from fl_server.plan.setup import Setup
from simulation.preflight import preflight

PREDICT = {"data": {"factory": "toy:numbers"}, "model": {"factory": "toy:predictor"}}
PRIVATE = {"privacy": {"epsilon": 8.0, "delta": 1e-5}}


@pytest.mark.parametrize("private", [False, True], ids=["open", "private"])
@pytest.mark.parametrize(
    ("sections", "kind", "message"),
    [
        (
            {"model": {"factory": "support.odd:trailing"}},
            ModelError,
            "model: expected outputs [B, 3], got [B, 3, 1]; end",
        ),
        ({"model": {"factory": "support.odd:double"}}, ModelError, "model: expected float32 weights, got float64"),
        ({"model": {"factory": "support.odd:frozen"}}, ModelError, "model: expected at least one parameter with requ"),
        (
            {"task": {"factory": "support.odd:MeanLoss"}},
            ConfigError,
            "task.factory support.odd:MeanLoss: example_loss: ",
        ),
        ({"task": {"factory": "support.odd:Raising"}}, ConfigError, "odd.py, line "),
        (
            {"task": {"factory": "support.odd:TwoArguments"}},
            ConfigError,
            "check_targets of client client-0, train: Type",
        ),
        (
            {"task": {"factory": "support.odd:ChecksInPlace"}},
            ConfigError,
            "check_targets of client client-0, train: ValueError: assignment destination is read-only (",
        ),
        (PREDICT | {"task": {"factory": "support.odd:Broadcasting"}}, ConfigError, "a loss of each example on its own"),
    ],
)
def test_a_broken_contract_is_refused_in_the_same_words_with_and_without_privacy(
    tmp_path: Path, private: bool, sections: dict[str, Any], kind: type[StonecropError], message: str
) -> None:
    config = toy.config(tmp_path, **sections, **(PRIVATE if private else {}))
    with pytest.raises(kind) as caught:
        preflight(config)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


@pytest.mark.parametrize("task", ["classification", "regression", "reconstruction"])
def test_a_server_without_examples_of_clients_tries_the_task_all_the_same(tmp_path: Path, task: str) -> None:
    sections: dict[str, Any] = {
        "classification": {},
        "regression": PREDICT,
        "reconstruction": {"data": {"factory": "toy:waves"}, "model": {"factory": "toy:squeeze"}},
    }[task]
    made = {"classification": toy.data, "regression": toy.numbers, "reconstruction": toy.waves}[task](test=0)
    config = toy.config(tmp_path, **sections, task={"name": task})
    Setup.of(config, replace(made, clients={}))
    wrong = toy.config(tmp_path, **{**sections, "task": {"factory": "support.odd:MeanLoss"}})
    if task == "classification":
        with pytest.raises(ConfigError, match=r"shape \[3\], got \[\]"):
            Setup.of(wrong, replace(made, clients={}))


def test_a_norm_with_its_initial_statistics_is_found_and_one_that_was_trained_is_not(tmp_path: Path) -> None:
    idle = preflight(toy.config(tmp_path, model={"factory": "support.odd:normalised"}))
    (finding,) = idle.findings
    assert finding.topic == "normalisation"
    assert "layer 1: BatchNorm1d" in finding.text
    assert "it normalises nothing" in finding.text
    seen = preflight(toy.config(tmp_path, model={"factory": "support.odd:normalised", "args": {"seen": True}}))
    assert not seen.findings


def test_a_shared_weight_is_counted_once(tmp_path: Path) -> None:
    outline = preflight(toy.config(tmp_path, model={"factory": "support.odd:tied"}))
    assert outline.parameters == 16 * 16 + 16 * 3 + 3


@pytest.mark.parametrize(
    ("what", "differs"),
    [
        ("frozen weight", "0.bias has other values"),
        ("statistics", "1.running_mean has other values"),
        ("layer", "layer 4 is Dropout"),
        ("size", "layer 4 is Linear"),
    ],
)
def test_a_factory_that_gives_another_model_at_another_call_is_refused(tmp_path: Path, what: str, differs: str) -> None:
    config = toy.config(tmp_path, model={"factory": "support.odd:drawn_anew", "args": {"what": what}})
    with pytest.raises(ModelError, match=r"model\.factory support\.odd:drawn_anew: expected the same model") as caught:
        preflight(config)
    assert f"got another: {differs}" in str(caught.value)
    assert "draw from torch's global generator" in str(caught.value)


def test_a_factory_may_draw_from_any_global_generator(tmp_path: Path) -> None:
    preflight(toy.config(tmp_path, model={"factory": "support.odd:drawn_from_the_global_generators"}))
