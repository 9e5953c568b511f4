"""The private names of Flower that we lean on are those of the release that is installed."""

from __future__ import annotations

import ast
import inspect
import socket
from datetime import datetime, timezone
from importlib.metadata import version

import flwr.app
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supernode import start_client_internal

from fl_core import flower_private
from fl_core.errors import RoundError
from fl_core.flower_private import (
    BUSY_FOR_S,
    BUSY_POLL_S,
    IDLE_POLL_S,
    REPLY_POLL_S,
    TESTED_FLWR,
    ControlApi,
    identify_process,
    set_message_id,
)
from fl_server.gateway.authority import init_authority
from fl_server.gateway.layout import GatewayFiles


def test_the_installed_flwr_is_the_one_whose_private_names_were_read():
    assert version("flwr").startswith(f"{TESTED_FLWR}.")


def test_a_message_can_be_made_and_answered_without_a_superlink():
    identify_process(5)
    asked = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 9, "train")
    set_message_id(asked, "message-1")
    reply = flwr.app.Message(RecordDict({}), reply_to=asked)
    assert (asked.metadata.run_id, asked.metadata.src_node_id, asked.metadata.dst_node_id) == (5, 1, 9)
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("message-1", 9)


def test_a_supernode_asks_oftener_only_while_it_gets_messages(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(flower_private.time, "sleep", slept.append)
    now = [1000.0]
    monkeypatch.setattr(flower_private.time, "monotonic", lambda: now[0])
    clock = flower_private._PollingTime()
    clock.sleep(IDLE_POLL_S)
    clock.sleep(0.5)
    clock.sleep(IDLE_POLL_S)
    now[0] += BUSY_FOR_S + 1
    clock.sleep(IDLE_POLL_S)
    assert slept == [IDLE_POLL_S, REPLY_POLL_S, BUSY_POLL_S, IDLE_POLL_S]


def test_the_supernodes_loop_still_sleeps_as_expected():
    tree = ast.parse(inspect.getsource(start_client_internal))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"]
    assert sorted(ast.unparse(call.args[0]) for call in calls) == ["0.5", "0.5", "3"]
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in used if name.startswith("time.")} == {"time.sleep"}


def test_a_superlink_that_is_not_there_is_said_in_one_line(tmp_path):
    init_authority(tmp_path, [], datetime.now(timezone.utc))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    api = ControlApi(f"127.0.0.1:{port}", GatewayFiles(tmp_path).ca_certificate.read_bytes())
    for call in (lambda: api.run_status("1"), lambda: api.stop_run("1"), lambda: api.unregister_node("1")):
        with pytest.raises(RoundError, match="no answer from the SuperLink"):
            call()
    with pytest.raises(RoundError, match="RegisterNode: no answer"):
        api.register_node(b"key", "board")
