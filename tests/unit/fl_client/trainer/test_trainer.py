"""The trainer's promises: resend a stored result, refuse when the budget is spent, tell nothing it must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

from fl_client.trainer.task import ClientTask, Trainer, size_class
from fl_core.errors import BudgetSpentError, PolicyError, WireError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import SecretNoise
from fl_core.types import RoundPlan
from fl_core.update import decode_update
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of

CLIENT = "client-2"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    config = toy.config(tmp_path, privacy={"epsilon": 8.0}, clients={"local_steps": 2}, run={"rounds": 3})
    return Setup.of(config, toy.data())


def board(folder: Path, **policy: float) -> Trainer:
    """A trainer as on a board: its own ledger, its own limits, noise that nobody knows."""
    limits = {"epsilon_cap": 8.0, "delta": 1e-5, "max_clip_norm": 1.0, "min_noise_multiplier": 0.1} | policy
    own = {CLIENT: toy.data().clients[CLIENT]}
    return Trainer(
        own,
        Ledger(folder / "ledger.sqlite"),
        lambda: DevicePolicy(max_sample_rate=1.0, **limits),
        lambda plan: SecretNoise(),
        folder / "artifacts",
        simulated=False,
    )


def task(setup: Setup, trainer: Trainer, round: int = 1) -> ClientTask:
    return ClientTask(plan_of(setup, trainer.info(CLIENT), round, round - 1), setup.initial_state().model)


def result(trainer: Trainer, asked: ClientTask) -> bytes:
    (answer,) = trainer.train_many([asked])
    if answer.error is not None:
        raise answer.error
    assert answer.encoded is not None
    return answer.encoded


def test_a_task_that_is_delivered_twice_resends_its_result_and_spends_once(setup, tmp_path):
    trainer = board(tmp_path)
    asked = task(setup, trainer)
    first = result(trainer, asked)
    assert result(trainer, asked) == first
    assert result(board(tmp_path), asked) == first  # after a restart too
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert len(ledger.events(CLIENT)) == 1


def test_two_runs_of_secret_noise_never_agree(setup, tmp_path):
    results = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trainer = board(tmp_path / name)
        delta = decode_update(result(trainer, task(setup, trainer)), CLIENT).parts["delta"].tensors
        results.append(np.concatenate([t.ravel() for t in delta.values()]))
    assert not np.any(results[0] == results[1])


def test_when_the_budget_is_spent_the_client_refuses_and_says_why(setup, tmp_path):
    trainer = board(tmp_path)
    for round in (1, 2, 3):
        result(trainer, task(setup, trainer, round))
    with pytest.raises(BudgetSpentError, match="over its cap of 8"):
        result(trainer, task(setup, trainer, 4))


def test_a_plan_that_protects_less_than_the_device_allows_is_refused_before_anything_is_spent(setup, tmp_path):
    trainer = board(tmp_path, min_noise_multiplier=50.0)
    with pytest.raises(PolicyError, match="noise_multiplier"):
        result(trainer, task(setup, trainer))
    assert Ledger(tmp_path / "ledger.sqlite").spent(CLIENT, 1e-5) == 0.0


def test_under_dp_an_update_tells_neither_count_nor_loss_nor_range(setup, tmp_path):
    trainer = board(tmp_path)
    update = decode_update(result(trainer, task(setup, trainer)), CLIENT)
    assert update.weight == 1
    assert not update.simulated
    assert update.parts.keys() == {"delta"}
    assert update.parts["delta"].dp_origin == "dpsgd"


def test_what_leaves_a_board_depends_on_the_size_class_alone(setup, tmp_path):
    """One example more or less changes neither steps, sample rate, normaliser nor weight."""
    plans = []
    for count in (46, 47):
        client = toy.data().clients[CLIENT]
        own = {CLIENT: replace(client, train=client.train.take(np.arange(count)))}
        (tmp_path / str(count)).mkdir()
        trainer = board(tmp_path / str(count))
        trainer = replace(trainer, clients=own)
        plans.append(plan_of(setup, trainer.info(CLIENT), 1, 0))
    assert plans[0] == plans[1]


def test_whatever_a_server_sends_a_device_with_a_policy_trains_under_dp_only(setup, tmp_path):
    trainer = board(tmp_path)
    asked = task(setup, trainer)
    bare = ClientTask(replace(asked.plan, dp=None, task_id="bare"), asked.model)
    with pytest.raises(PolicyError, match="expected a plan with DP"):
        result(trainer, bare)
    with pytest.raises(PolicyError, match="do not leave a device"):
        trainer.evaluate(bare)


def test_a_server_cannot_ask_for_running_ranges_under_dp(setup, tmp_path):
    trainer = board(tmp_path)
    asked = task(setup, trainer)
    training = {**asked.plan.training, "quant": {**asked.plan.training["quant"], "ranges": "ema"}}
    with pytest.raises(PolicyError, match="running ranges"):
        result(trainer, ClientTask(replace(asked.plan, training=training), asked.model))
    assert Ledger(tmp_path / "ledger.sqlite").spent(CLIENT, 1e-5) == 0.0


def test_scores_on_private_examples_stay_on_the_board(setup, tmp_path):
    trainer = board(tmp_path)
    with pytest.raises(PolicyError, match="do not leave a device"):
        trainer.evaluate(task(setup, trainer))


def test_a_task_for_somebody_else_is_refused(setup, tmp_path):
    trainer = board(tmp_path)
    asked = task(setup, trainer)
    other: RoundPlan = replace(asked.plan, client_id="client-9", task_id="other")
    with pytest.raises(WireError, match="client-9"):
        result(trainer, ClientTask(other, asked.model))


@pytest.mark.parametrize("examples", [1, 2, 3, 50, 136, 270, 400, 100_000])
def test_a_size_class_is_within_a_factor_of_the_root_of_two(examples):
    ratio = examples / size_class(examples)
    assert 0.9 <= ratio <= 2**0.5 * 1.2
