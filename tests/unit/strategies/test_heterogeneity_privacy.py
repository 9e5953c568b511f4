"""Client state under DP costs nothing and tells nothing; it is that of the last accepted update. The real trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

from fl_client.trainer.memory import decode_memory
from fl_client.trainer.task import ClientTask, Trainer
from fl_core.errors import ConfigError, PolicyError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import SeededNoise
from fl_core.types import ClientUpdate, RoundPlan, Tensors
from fl_core.update import decode_update
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from strategies.client import LocalOutcome, join_tensors

CLIENT = "client-2"
POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0)
RATE, STEPS = 0.2, 2


class Board:
    """One client with its own ledger, and the server's answers to it."""

    def __init__(self, folder: Path, strategy: str, args: dict[str, object] | None = None, private: bool = True):
        folder.mkdir()
        section = {"local_steps": STEPS, "optimizer": {"learning_rate": RATE}}
        config = toy.config(
            folder, strategy={"name": strategy, "args": args or {}}, clients=section,
            **({"privacy": {"epsilon": 8.0}} if private else {}),
        )  # fmt: skip
        self.setup = Setup.of(config, toy.data())
        self.ledger = Ledger(folder / "ledger.sqlite", simulated=True)
        own = {CLIENT: toy.data().clients[CLIENT]}
        policy = POLICY if private else None
        self.trainer = Trainer(own, self.ledger, lambda: policy, _noise, folder / "artifacts", simulated=True)

    def plan(self, round: int, accepted: str | None = None) -> RoundPlan:
        # Another strategy is another task: the same name here lets two boards draw the same noise and batches.
        plan = plan_of(self.setup, self.trainer.info(CLIENT), round, round - 1, accepted=accepted)
        return replace(plan, task_id=f"task-{round}")

    def train(self, round: int, accepted: str | None = None, by: float = 0.0) -> ClientUpdate:
        state = self.setup.initial_state()
        moved = {name: tensor + np.float32(by) for name, tensor in state.model.items()}
        beside = {
            slot: {name: tensor + np.float32(by) for name, tensor in group.items()}
            for slot, group in self.setup.strategy.broadcast(state).items()
        }
        (answer,) = self.trainer.train_many([ClientTask(self.plan(round, accepted), join_tensors(moved, beside))])
        if answer.error is not None:
            raise answer.error
        assert answer.encoded is not None
        return decode_update(answer.encoded, CLIENT)

    def memory(self) -> dict[str, dict[str, np.ndarray]]:
        return decode_memory(self.ledger.state(CLIENT))


def _noise(plan: RoundPlan) -> SeededNoise:
    return SeededNoise(plan.seed, plan.run, plan.round, plan.client_id)


@contextmanager
def board(folder: Path, strategy: str, args: dict[str, object] | None = None, private: bool = True) -> Iterator[Board]:
    made = Board(folder, strategy, args, private)
    try:
        yield made
    finally:
        made.ledger.close()


def equal(left: Tensors, right: Tensors) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn", "moon", "ditto", "finetune", "fedper", "fedbn"])
def test_client_state_spends_what_fedavg_spends(tmp_path, strategy):
    with board(tmp_path / "plain", "fedavg") as plain, board(tmp_path / "other", strategy) as other:
        for round in (1, 2):
            accepted = f"task-{round - 1}" if round > 1 else None
            updates = plain.train(round, accepted), other.train(round, accepted)
            assert updates[0].epsilon == updates[1].epsilon
            assert all(part.dp_origin == "dpsgd" for part in updates[1].parts.values())
        assert plain.ledger.events(CLIENT) == other.ledger.events(CLIENT)
        assert plain.ledger.spent(CLIENT, 1e-5) == other.ledger.spent(CLIENT, 1e-5) > 0
        assert other.memory()


def test_scaffolds_control_is_post_processing_of_the_private_update(tmp_path):
    """Who sees the private updates and what the server sent can compute all controls: they tell nothing more."""
    with board(tmp_path / "b", "scaffold") as client:
        strategy, memory = client.setup.strategy, {}
        for round in (1, 2, 3):
            update = client.train(round, f"task-{round - 1}" if round > 1 else None, by=0.01 * round)
            common = {n: np.full_like(t, np.float32(0.01 * round)) for n, t in update.parts["delta"].tensors.items()}
            seen = LocalOutcome(
                received={}, delta=update.parts["delta"].tensors, broadcast={"control": common}, memory=memory,
                steps=client.plan(round).dp.steps, learning_rate=RATE, momentum=0.0, private=True,
            )  # fmt: skip
            parts, memory = strategy.conclude(seen)
            assert equal(parts["control"], update.parts["control"].tensors)


@pytest.mark.parametrize(
    ("strategy", "args", "says"),
    [("fednova", {}, "number of steps"), ("fedrep", {}, "moved without noise"),
     ("ditto", {"inner": {"name": "fednova"}}, "number of steps"),
     ("finetune", {"inner": {"name": "fedrep"}}, "moved without noise")],
)  # fmt: skip
def test_what_cannot_be_had_privately_is_refused_by_the_server_and_by_the_device(tmp_path, strategy, args, says):
    with pytest.raises(ConfigError, match=says), board(tmp_path / "server", strategy, args):
        pass
    with board(tmp_path / "device", "fedavg") as client:
        asked = client.plan(1)
        forged = replace(asked, training={**asked.training, "strategy": {"name": strategy, "args": args}})
        (answer,) = client.trainer.train_many([ClientTask(forged, client.setup.initial_state().model)])
        assert isinstance(answer.error, PolicyError)
        assert says in str(answer.error)
        assert client.ledger.spent(CLIENT, 1e-5) == 0.0
    with board(tmp_path / "bare", strategy, args, private=False) as client:
        assert client.train(1).parts


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("strategy", ["scaffold", "feddyn", "ditto", "fedper"])
def test_an_update_that_was_not_accepted_leaves_no_memory(tmp_path, strategy, private):
    """Round 2 is trained and dropped: round 3 then gives the bits of a client that was never asked in round 2."""
    with (
        board(tmp_path / "dropped", strategy, private=private) as dropped,
        board(tmp_path / "kept", strategy, private=private) as kept,
        board(tmp_path / "never", strategy, private=private) as never,
    ):
        for client in (dropped, kept, never):
            client.train(1)
        for client in (dropped, kept):
            client.train(2, "task-1", by=0.05)
        got, other = (client.train(3, "task-1", by=0.02) for client in (dropped, never))
        assert equal(dropped.memory()[slot(strategy)], never.memory()[slot(strategy)])
        assert all(equal(got.parts[name].tensors, other.parts[name].tensors) for name in other.parts)
        assert got.simulated == other.simulated
        # and the comparison can fail: had round 2 been accepted, round 3 would be another one
        went_on = kept.train(3, "task-2", by=0.02)
        assert not equal(kept.memory()[slot(strategy)], dropped.memory()[slot(strategy)])
        if strategy != "ditto":
            assert not equal(went_on.parts["delta"].tensors, got.parts["delta"].tensors)


def slot(strategy: str) -> str:
    return {"scaffold": "control", "feddyn": "gradient", "ditto": "personal", "fedper": "home"}[strategy]


def test_a_server_that_accepted_nothing_meets_a_client_without_memory(tmp_path):
    with board(tmp_path / "b", "scaffold") as client:
        client.train(1)
        client.train(2, "task-1")
        assert client.memory()
        client.train(3, None)
        assert not client.memory()
