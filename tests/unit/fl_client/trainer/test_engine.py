"""Many jobs at once: each its own outcome, in order, and who cannot train costs nobody else anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

from fl_client.trainer.engine import LoopEngine
from fl_client.trainer.job import Outcome, TrainJob
from fl_client.trainer.task import ClientTask, Trainer
from fl_core.errors import ModelError, PolicyError, WireError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import SeededNoise
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from strategies.client import join_tensors

POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0)
CLIENTS = ("client-0", "client-1", "client-2")


class AllBeforeAnswering:
    """Trains every job before it gives the first outcome, and keeps how many it had at once."""

    def __init__(self) -> None:
        self.cohorts: list[list[str]] = []

    def run(self, jobs: Sequence[TrainJob]) -> Iterator[Outcome | Exception]:
        self.cohorts.append([job.plan.client_id for job in jobs])
        return iter(list(LoopEngine().run(jobs)))


def make(folder: Path, private: bool, **sections: object) -> tuple[Setup, Trainer]:
    folder.mkdir(parents=True, exist_ok=True)
    privacy = {"privacy": {"epsilon": 8.0}} if private else {}
    setup = Setup.of(toy.config(folder, clients={"local_steps": 2}, **privacy, **sections), toy.data())
    trainer = Trainer(
        toy.data().clients,
        Ledger(folder / "ledger.sqlite", simulated=True),
        lambda: POLICY if private else None,
        lambda plan: SeededNoise(plan.seed, plan.run, plan.round, plan.client_id),
        folder / "artifacts",
        simulated=True,
    )
    return setup, trainer


def tasks(setup: Setup, trainer: Trainer, round: int = 1) -> list[ClientTask]:
    state = setup.initial_state()
    sent = join_tensors(state.model, setup.strategy.broadcast(state))
    return [ClientTask(plan_of(setup, trainer.info(client), round, round - 1), sent) for client in CLIENTS]


@pytest.mark.parametrize(
    ("private", "sections"),
    [
        (False, {"strategy": {"name": "ditto"}}),
        (True, {"strategy": {"name": "scaffold"}}),
        (False, {"quant": {"ranges": "ema"}}),
        (False, {"clients": {"selection": {"name": "oort"}, "per_round": 2}}),
        (False, {"strategy": {"name": "ditto"}, "export": {"clients_export": True}}),
    ],
)
def test_jobs_trained_together_give_the_bytes_of_jobs_trained_one_by_one(tmp_path, private, sections):
    sections = {name: dict(section) for name, section in sections.items()}
    clients = sections.pop("clients", {})
    results, artefacts = {}, {}
    for name in ("one by one", "together"):
        setup, trainer = make(tmp_path / name, private, **sections)
        if clients:
            setup = Setup.of(toy.config(tmp_path / name, clients={"local_steps": 2, **clients}), toy.data())
        if name == "together":
            engine = AllBeforeAnswering()
            results[name] = list(replace(trainer, engine=engine).train_many(tasks(setup, trainer)))
            assert engine.cohorts == [list(CLIENTS)]
        else:
            results[name] = [r for task in tasks(setup, trainer) for r in trainer.train_many([task])]
        found = sorted((tmp_path / name / "artifacts").rglob("*.onnx"))
        artefacts[name] = [path.read_bytes() for path in found]
        assert len(found) == (3 if "export" in sections else 0)
    assert artefacts["one by one"] == artefacts["together"]
    assert [r.client_id for r in results["together"]] == list(CLIENTS)
    assert all(r.encoded is not None for r in results["together"])
    assert [r.encoded for r in results["one by one"]] == [r.encoded for r in results["together"]]


def test_a_client_that_cannot_train_costs_its_own_result_alone(tmp_path):
    setup, trainer = make(tmp_path, False)
    first, second, third = tasks(setup, trainer)
    wrong = ClientTask(second.plan, {"w": np.ones(1, np.float32)})
    stranger = ClientTask(replace(third.plan, client_id="client-9"), third.model)
    results = list(trainer.train_many([first, wrong, stranger, third]))
    assert [type(result.error) for result in results] == [type(None), ModelError, WireError, type(None)]
    assert [result.client_id for result in results] == ["client-0", "client-1", "client-9", "client-2"]
    setup, trainer = make(tmp_path / "alone", False)
    (alone,) = trainer.train_many(tasks(setup, trainer)[2:])
    assert results[3].encoded == alone.encoded


def test_an_error_of_somebodys_own_code_costs_one_result_too(tmp_path):
    setup, trainer = make(tmp_path, False)
    first, second, third = tasks(setup, trainer)
    training = {**second.plan.training, "strategy": {"name": "scaffold", "factory": None, "args": {}}}
    without_control = ClientTask(replace(second.plan, training=training), second.model)
    results = list(trainer.train_many([first, without_control, third]))
    assert [type(result.error) for result in results] == [type(None), KeyError, type(None)]


def test_a_clients_second_task_waits_for_its_first(tmp_path):
    setup, trainer = make(tmp_path, True)
    engine = AllBeforeAnswering()
    trainer = replace(trainer, engine=engine)
    one, two, _ = tasks(setup, trainer)
    again = list(trainer.train_many([one, two, one]))
    assert engine.cohorts == [["client-0", "client-1"], []]
    assert again[2].encoded == again[0].encoded
    assert len(trainer.ledger.events("client-0")) == 1


@pytest.mark.parametrize(("asks", "says"), [(("rms_loss",), "losses of private"), (("ranges",), "ranges of private")])
def test_whatever_a_plan_asks_for_stays_on_a_device_under_dp_where_the_table_says_so(tmp_path, asks, says):
    setup, trainer = make(tmp_path, True)
    task = tasks(setup, trainer)[0]
    (result,) = trainer.train_many([ClientTask(replace(task.plan, asks=asks), task.model)])
    assert isinstance(result.error, PolicyError)
    assert says in str(result.error)
    assert trainer.ledger.spent("client-0", 1e-5) == 0.0


def test_a_plan_that_asks_for_what_nobody_knows_is_refused(tmp_path):
    setup, trainer = make(tmp_path, False)
    task = tasks(setup, trainer)[0]
    (result,) = trainer.train_many([ClientTask(replace(task.plan, asks=("diary",)), task.model)])
    assert isinstance(result.error, WireError)
    assert "client-0: plan asks for parts ['diary']" in str(result.error)


def test_a_job_says_as_values_how_it_trains(tmp_path):
    setup, trainer = make(tmp_path, True)
    task = tasks(setup, trainer)[0]
    job = trainer.open(task)
    assert isinstance(job, TrainJob)
    assert (job.dp, job.optimizer) == (task.plan.dp, setup.config.clients.optimizer)
    assert (job.spec.clients.local_steps, job.spec.clients.batch_size) == (2, 16)
    assert len(job.inputs) == len(job.targets) == 48
