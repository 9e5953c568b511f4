"""What a client did to the parts of its update is undone before the server looks at them, last link first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import toy

from fl_client.trainer.task import ClientTask, Trainer
from fl_core import wire
from fl_core.errors import UpdateRejectedError
from fl_core.part_transforms import PartTransform, UpdateParts, restored, transformed
from fl_core.privacy.ledger import Ledger
from fl_core.questions import TRAIN
from fl_core.rng import SeededNoise
from fl_core.runlog import RunLog, read_events
from fl_core.types import FloatArray, Part
from fl_core.update import decode_update
from fl_server.nodes.mailbox import Reply
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import expected_update, plan_of
from fl_server.results.model import Nets
from fl_server.rounds.intake import Intake, Tally

CLIENT = "client-2"


def by_tensor(parts: UpdateParts, change: Callable[[FloatArray], FloatArray]) -> UpdateParts:
    return {
        name: replace(part, tensors={key: change(value) for key, value in part.tensors.items()})
        for name, part in parts.items()
    }


class Doubled:
    """Twice the value, exactly; of float32 alone."""

    def forward(self, parts: UpdateParts) -> UpdateParts:
        return by_tensor(parts, lambda tensor: 2 * tensor)

    def backward(self, parts: UpdateParts) -> UpdateParts:
        if any(t.dtype != np.float32 for part in parts.values() for t in part.tensors.values()):
            raise UpdateRejectedError("doubled: expected float32")
        return by_tensor(parts, lambda tensor: tensor / 2)


class Wide:
    """The value as float64, which admission takes from nobody."""

    def forward(self, parts: UpdateParts) -> UpdateParts:
        return by_tensor(parts, lambda tensor: tensor.astype(np.float64))

    def backward(self, parts: UpdateParts) -> UpdateParts:
        return by_tensor(parts, lambda tensor: tensor.astype(np.float32))


CHAIN: tuple[PartTransform, ...] = (Doubled(), Wide())


def test_a_chain_is_undone_in_reverse():
    parts = {"delta": Part({"w": np.array([1.5, -3.0], np.float32)}, "dpsgd")}
    sent = transformed(parts, CHAIN)
    assert sent["delta"].tensors["w"].tolist() == [3.0, -6.0]
    assert sent["delta"].tensors["w"].dtype == np.float64
    back = restored(sent, CHAIN)["delta"]
    assert back.dp_origin == "dpsgd"
    assert back.tensors["w"].tobytes() == parts["delta"].tensors["w"].tobytes()
    with pytest.raises(UpdateRejectedError):
        restored(sent, CHAIN[::-1])
    assert restored(transformed(parts, ()), ()) == parts


def test_what_a_chain_did_on_the_client_is_undone_before_admission(tmp_path):
    setup = Setup.of(toy.config(tmp_path, run={"rounds": 1}), toy.data())
    state = setup.initial_state()
    nets = Nets(setup.spec, 7)
    expected = expected_update(setup, nets.parameters, nets.running)
    sums, travelled = {}, {}
    for name, chain in (("plain", ()), ("changed", CHAIN), ("not undone", CHAIN)):
        (tmp_path / name).mkdir()
        trainer = Trainer(
            {CLIENT: toy.data().clients[CLIENT]},
            Ledger(tmp_path / name / "ledger.sqlite"),
            lambda: None,
            lambda plan: SeededNoise(plan.seed, plan.run, plan.round, plan.client_id),
            tmp_path / name,
            simulated=True,
            transforms=chain,
        )
        plan = plan_of(setup, trainer.info(CLIENT), 1, 0)
        (result,) = trainer.train_many([ClientTask(plan, state.model)])
        assert result.encoded is not None
        travelled[name] = decode_update(result.encoded, CLIENT).parts["delta"].tensors
        log, tally = RunLog(tmp_path / name, "toy"), Tally(asked=1)
        intake = Intake(setup, expected, log, 1, {}, {}, tally, {}, transforms=() if name == "not undone" else chain)
        reply = Reply(1, wire.pack_reply(TRAIN, result.encoded))
        sums[name] = intake.take(reply, plan, state).sums
        log.close()
        trainer.ledger.close()
        kinds = [event["kind"] for event in read_events(tmp_path / name)]
        assert ("client_rejected" in kinds) == (name == "not undone")
    assert {t.dtype for t in travelled["changed"].values()} == {np.dtype(np.float64)}
    for name, tensor in sums["plain"]["delta"].mean().items():
        assert sums["changed"]["delta"].mean()[name].tobytes() == tensor.tobytes()
    assert not sums["not undone"]
