"""The private names of Flower that we lean on are those of the release that is installed."""

from __future__ import annotations

from importlib.metadata import version

import flwr.app
from flwr.app import ConfigRecord, Message, RecordDict

from fl_core.flower_private import TESTED_FLWR, identify_process, set_message_id


def test_the_installed_flwr_is_the_one_whose_private_names_were_read():
    assert version("flwr").startswith(f"{TESTED_FLWR}.")


def test_a_message_can_be_made_and_answered_without_a_superlink():
    identify_process(5)
    asked = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 9, "train")
    set_message_id(asked, "message-1")
    reply = flwr.app.Message(RecordDict({}), reply_to=asked)
    assert (asked.metadata.run_id, asked.metadata.src_node_id, asked.metadata.dst_node_id) == (5, 1, 9)
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("message-1", 9)
