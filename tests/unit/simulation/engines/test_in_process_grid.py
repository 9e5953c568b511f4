"""The in-process Grid behaves as Flower's: one reply a message, errors as replies, silence as silence, no sharing."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fl_core.questions import TRAIN
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.nodes.mailbox import ask
from simulation.engines.in_process import InProcessGrid, nodes_of

NODES = nodes_of(["ann", "bob", "cid"])


def echo(message: Message, context: Context) -> Message | None:
    name = str(context.node_config["client-id"])
    if name == "bob":
        raise ValueError("bob is ill")
    if name == "cid":
        return None
    record = message.content["plan"]
    record["seen"] = True  # must not reach the sender's copy
    return Message(RecordDict({"got": ConfigRecord({"name": name, "value": record["value"]})}), reply_to=message)


def exchange() -> FlowerExchange:
    return FlowerExchange(InProcessGrid(NODES, echo))


def contents() -> dict[int, RecordDict]:
    return {node: RecordDict({"plan": ConfigRecord({"value": node})}) for node in NODES}


def test_every_node_is_accounted_for_once():
    sent = contents()
    replies = {NODES[reply.node_id]: reply for reply in ask(exchange(), TRAIN, sent, "1", 0.3)}
    assert replies.keys() == {"ann", "bob", "cid"}
    assert replies["ann"].content is not None
    assert replies["ann"].content["got"]["name"] == "ann"
    assert "bob is ill" in replies["bob"].failure
    assert not replies["bob"].missing
    assert replies["cid"].missing
    assert "no answer within 0.3 s" in replies["cid"].failure


def test_sides_share_no_memory():
    sent = contents()
    list(ask(exchange(), TRAIN, sent, "1", 0.2))
    assert all("seen" not in content["plan"] for content in sent.values())


def test_nobody_to_ask_is_no_wait():
    assert list(ask(exchange(), TRAIN, {}, "1", 60.0)) == []


def test_send_and_receive_gives_what_came_in_time():
    grid = InProcessGrid(NODES, echo)
    messages = [grid.create_message(content, "train", node, "1") for node, content in contents().items()]
    replies = list(grid.send_and_receive(messages, timeout=0.2))
    assert sorted(reply.has_error() for reply in replies) == [False, True]


def test_node_ids_are_never_the_servers():
    assert 1 not in nodes_of(["a"])
    assert nodes_of(["b", "a"]) == nodes_of(["a", "b"])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_ids_come_back_in_the_order_of_the_messages(count):
    grid = InProcessGrid(NODES, echo)
    messages = [grid.create_message(RecordDict({}), "train", node, "1") for node in list(NODES)[:count]]
    ids = list(grid.push_messages(messages))
    assert len(set(ids)) == count
    assert [message.metadata.message_id for message in messages] == ids
