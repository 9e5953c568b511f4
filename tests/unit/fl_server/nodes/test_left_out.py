"""A node that answers with an error, a refusal or a wrong name takes no part, and its reason is never lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from fl_core import wire
from fl_core.errors import RoundError
from fl_core.questions import INFO
from fl_core.records import encode_info
from fl_core.runlog import RunLog, read_events
from fl_core.types import ClientInfo
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.nodes.members import Members
from simulation.engines.in_process import InProcessGrid

NODES = {2: "a", 3: "b", 4: "c", 5: "d"}


def answer(message: Message, context: Context) -> Message:
    """What four nodes say who they are: one says it, two cannot, one will not."""
    name = str(context.node_config["client-id"])
    if name == "a":
        info = encode_info(ClientInfo(name, 8, "1", True))
        return Message(wire.pack_reply(INFO, info), reply_to=message)
    if name == "d":
        return Message(wire.pack_refusal("not today"), reply_to=message)
    raise KeyError("its data is gone")


def test_a_start_that_lacks_clients_names_every_reason_once() -> None:
    members = Members(FlowerExchange(InProcessGrid(NODES, answer)), enrolled=lambda: {2: "a", 3: "b"})
    with pytest.raises(RoundError) as raised:
        members.gather(1.0, at_least=2)
    few, error, refusal = raised.value.problems
    assert few == "run: expected at least 2 clients within 1 s, got 1"
    assert error.startswith("client b, node 4: asked who it is: KeyError: 'its data is gone'")
    assert refusal == "node 5: asked who it is: not today"


def test_a_round_without_some_nodes_says_so_in_its_events(tmp_path: Path) -> None:
    members = Members(FlowerExchange(InProcessGrid(NODES, answer)))
    assert [info.client_id for info in members.gather(1.0, at_least=1).values()] == ["a"]
    with closing(RunLog(tmp_path, "r")) as log:
        members.say_left_out(log, 1)
    events = [(event["kind"], event["client_id"]) for event in read_events(tmp_path)]
    assert events == [("client_failed", f"node {node_id}") for node_id in (3, 4, 5)]


def test_a_node_that_answers_at_last_is_in(tmp_path: Path) -> None:
    broken = {"a"}

    def mended(message: Message, context: Context) -> Message:
        if broken:
            broken.clear()
            raise ArithmeticError("not yet")
        return answer(message, context)

    members = Members(FlowerExchange(InProcessGrid({2: "a"}, mended)))
    assert members.look() == {}
    assert len(members.look()) == 1
    with closing(RunLog(tmp_path, "r")) as log:
        members.say_left_out(log, 1)
        members.check_enough(1, 1, 1.0)
    assert list(read_events(tmp_path)) == []


def test_nonsense_in_place_of_a_name_is_a_reason_too() -> None:
    def nonsense(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    members = Members(FlowerExchange(InProcessGrid({2: "a"}, nonsense)))
    with pytest.raises(RoundError, match="node 2: asked who it is: message from node 2: expected a record 'info'"):
        members.gather(1.0, at_least=1)
