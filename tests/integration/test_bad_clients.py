"""One bad client costs a round its own update and nothing else.

Each fault is compared, bit for bit, with a run in which that client was not there at all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import toy
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fl_core import __version__, wire
from fl_core.errors import NoUpdateError
from fl_core.privacy.ledger import Ledger
from fl_core.questions import TRAIN
from fl_core.runlog import RunLog, read_events
from fl_core.tree import digest
from fl_core.types import ClientInfo, ClientUpdate, Part
from fl_core.update import decode_update, encode_update
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from fl_server.rounds.checkpoint import checkpoint_of, load_checkpoint
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app, simulated_policy
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app

BAD = "client-1"
Fault = Callable[[Message, Message], "Message | None"]


def federate(out: Path, fault: Fault | None = None, without: str = "", **sections: object) -> Path:
    """Run the toy federation; ``fault`` makes the bad client's train reply from the honest one."""
    config = toy.config(out, **sections)
    federation = toy.data()
    everyone = {name: client for name, client in federation.clients.items() if name != without}
    app = client_app(build_trainer(config, replace(federation, clients=everyone), out))

    def answer(message: Message, context: Context) -> Message | None:
        reply = run_app(app, message, context)
        if fault is None or context.node_config["client-id"] != BAD or message.metadata.message_type != "train":
            return reply
        return fault(message, reply)

    with closing(RunLog(out, config.run.name)) as log:
        run_rounds(FlowerExchange(InProcessGrid(nodes_of(everyone), answer)), Setup.of(config, federation), out, log)
    return out


def final(out: Path) -> str:
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint is not None
    return digest(checkpoint.state.model)


def changed(change: Callable[[ClientUpdate], ClientUpdate]) -> Fault:
    """A fault that sends another update than the honest one."""

    def fault(message: Message, reply: Message) -> Message:
        honest = decode_update(wire.unpack_reply(TRAIN, reply.content, BAD), BAD)
        return Message(wire.pack_reply(TRAIN, encode_update(change(honest))), reply_to=message)

    return fault


def tensors_changed(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Fault:
    def swap(update: ClientUpdate) -> ClientUpdate:
        part = update.parts["delta"]
        return replace(update, parts={"delta": Part(change(dict(part.tensors)), part.dp_origin)})

    return changed(swap)


def first_to(value: np.ndarray, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = sorted(tensors)[0]
    return {**tensors, name: np.broadcast_to(value, tensors[name].shape).astype(np.float32)}


def raising(message: Message, reply: Message) -> Message:
    raise RuntimeError("the sensor is on fire")


def garbage(message: Message, reply: Message) -> Message:
    return Message(RecordDict({"update": ConfigRecord({"bytes": b"\x00" * 100})}), reply_to=message)


def empty(message: Message, reply: Message) -> Message:
    return Message(RecordDict({}), reply_to=message)


def silent(message: Message, reply: Message) -> None:
    return None


FAULTS: dict[str, tuple[Fault, str]] = {
    "nan": (tensors_changed(partial(first_to, np.float32("nan"))), "client_rejected"),
    "inf": (tensors_changed(partial(first_to, np.float32("inf"))), "client_rejected"),
    "huge values": (tensors_changed(partial(first_to, np.float32(1e9))), "client_rejected"),
    "wrong shape": (tensors_changed(lambda t: {n: v.reshape(-1)[:1] for n, v in t.items()}), "client_rejected"),
    "missing tensor": (tensors_changed(lambda t: dict(list(t.items())[1:])), "client_rejected"),
    "extra tensor": (tensors_changed(lambda t: {**t, "extra": np.ones(1, np.float32)}), "client_rejected"),
    "huge weight": (changed(lambda u: replace(u, weight=10**12)), "client_rejected"),
    "negative count": (changed(lambda u: replace(u, weight=-48)), "client_rejected"),
    "other task": (changed(lambda u: replace(u, task_id="0" * 16)), "client_rejected"),
    "other client's name": (changed(lambda u: replace(u, client_id="client-0")), "client_rejected"),
    "corrupt bytes": (garbage, "client_rejected"),
    "no records": (empty, "client_rejected"),
    "raises": (raising, "client_failed"),
    "never answers": (silent, "client_missing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_client_is_as_if_it_were_not_there(name, tmp_path):
    fault, kind = FAULTS[name]
    quick = {"round": {"deadline_s": 2.0}, "export": {"every": 3}} if name == "never answers" else {}
    with_fault = federate(tmp_path / "fault", fault, **quick)
    without = federate(tmp_path / "without", without=BAD)
    assert final(with_fault) == final(without)
    named = [event for event in read_events(with_fault) if event["kind"] == kind]
    assert [event["client_id"] for event in named] == [BAD] * 3
    assert all(event["reason"] for event in named)


def test_the_bad_client_matters_when_it_is_good(tmp_path):
    """Otherwise the comparison above would prove nothing."""
    assert final(federate(tmp_path / "all")) != final(federate(tmp_path / "without", without=BAD))


def test_below_the_quorum_the_model_stays_as_it_was(tmp_path):
    def fails_from_the_second_round_on(message: Message, reply: Message) -> Message:
        if message.metadata.group_id != "1":
            raise RuntimeError("no")
        return reply

    out = federate(tmp_path / "run", fails_from_the_second_round_on, round={"quorum": 1.0})
    assert [event["accepted"] for event in read_events(out) if event["kind"] == "round_finished"] == [4, 3, 3]
    checkpoints = [checkpoint_of(out / "checkpoint", round) for round in (2, 3)]
    assert len({digest(found.state.model) for found in checkpoints if found}) == 1


def test_a_quorum_that_is_never_met_trains_nothing_and_says_so(tmp_path):
    def one_client_fails(message: Message, reply: Message) -> Message:
        raise RuntimeError("no")

    too_few = r"too few updates for round.quorum were accepted in 3 rounds.*: 1 of 4 clients failed: client-1: "
    with pytest.raises(NoUpdateError, match=too_few):
        federate(tmp_path, one_client_fails, round={"quorum": 1.0})


def test_a_client_whose_budget_is_spent_costs_the_round_one_client(tmp_path):
    """Its data set has spent everything elsewhere; the run goes on as if it were not there, and says why."""
    dp = {"privacy": {"epsilon": 8.0}}
    config = toy.config(tmp_path / "spent", **dp)
    (tmp_path / "spent" / "clients").mkdir(parents=True)
    ledger = Ledger(tmp_path / "spent" / "clients" / "ledger.sqlite", simulated=True)
    setup = Setup.of(config, toy.data())
    info = ClientInfo(BAD, ledger.enrol(BAD, 45), __version__, True)
    terms = plan_of(setup, info, 1, 0).dp
    policy = simulated_policy(config)
    assert terms is not None
    assert policy is not None
    for number in range(config.run.rounds):
        ledger.reserve(BAD, f"elsewhere-{number}", terms, policy)
    ledger.close()
    spent = federate(tmp_path / "spent", **dp)
    assert final(spent) == final(federate(tmp_path / "without", without=BAD, **dp))
    refusals = [event for event in read_events(spent) if event["kind"] == "client_refused"]
    assert [event["client_id"] for event in refusals] == [BAD] * 3
    assert all("over its cap of 8" in event["reason"] for event in refusals)


def test_an_update_whose_epsilon_did_not_grow_is_left_out_by_name(tmp_path):
    """As from a device whose ledger was lost between two rounds; what comes first cannot be compared with anything."""
    forgets = changed(lambda update: replace(update, epsilon=1.5))
    run = federate(tmp_path / "run", forgets, privacy={"epsilon": 8.0}, export={"formats": []})
    rejected = [event for event in read_events(run) if event["kind"] == "client_rejected"]
    assert [(event["round"], event["client_id"]) for event in rejected] == [(2, BAD), (3, BAD)]
    assert all("expected an epsilon above the 1.5000 of its last update" in event["reason"] for event in rejected)
