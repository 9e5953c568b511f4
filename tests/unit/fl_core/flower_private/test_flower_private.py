"""The private names of Flower that we lean on are those of the release that is installed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import flwr.app
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from fl_core.errors import RoundError
from fl_core.flower_private import TESTED_FLWR, identify_process, set_message_id
from fl_core.flower_private.grid import SIDE_BY_SIDE, pulling_side_by_side
from fl_core.flower_private.superlink import ControlApi
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


class TwoReplies:
    """A SuperLink that announces two replies, of which one is never uploaded whole."""

    def __init__(self, whole: Message, broken: Message) -> None:
        self._whole = get_all_nested_objects(whole)
        self._replies = {"message-1": broken, "message-2": whole}

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        found = [self._replies.pop(key) for key in request.message_ids if key in self._replies]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(message) for message in found],
            message_object_trees=[get_object_tree(message) for message in found],
        )

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        if request.object_id not in self._whole:
            return PullObjectResponse(object_found=True, object_available=False)
        content = self._whole[request.object_id].deflate()
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        """Nothing is left to do."""


@pytest.fixture
def stock_grid() -> HttpGrid:
    """A Grid whose first message has a reply that never comes whole, and the second one that is there."""
    identify_process(5)
    replies = []
    for number in (1, 2):
        asked = Message(RecordDict({"a": ConfigRecord({"b": number})}), 9, "train")
        set_message_id(asked, f"message-{number}")
        replies.append(Message(RecordDict({"a": ConfigRecord({"b": number})}), reply_to=asked))
        set_message_id(replies[-1], replies[-1].object_id)
    grid = HttpGrid(token="none")
    grid._client = TwoReplies(whole=replies[1], broken=replies[0])
    grid.set_run(Run.create_empty(5))
    return grid


@pytest.fixture
def half_uploaded(stock_grid) -> Iterator[HttpGrid]:
    """The same, and no reply waits for another."""
    with pulling_side_by_side(stock_grid):
        yield stock_grid


def pulled(grid: HttpGrid, message_ids: list[str], limit_s: float) -> list[int]:
    """What the replies say that come within a time; it ends with the first."""
    ends = time.monotonic() + limit_s
    found: list[Message] = []
    while not found and time.monotonic() < ends:
        found = list(grid.pull_messages(message_ids))
        time.sleep(0.01)
    return [message.content["a"]["b"] for message in found]


def test_a_reply_that_is_never_uploaded_whole_holds_up_no_other(half_uploaded):
    assert pulled(half_uploaded, ["message-1", "message-2"], 20) == [2]
    assert pulled(half_uploaded, ["message-1"], 0.2) == []


def test_who_asks_for_one_reply_takes_no_other_away(half_uploaded):
    at_once = list(half_uploaded.pull_messages(["message-1", "message-2"]))
    assert pulled(half_uploaded, ["message-1"], 0.2) == []
    assert at_once or pulled(half_uploaded, ["message-2"], 20) == [2]


def test_a_reply_that_nobody_waits_for_is_taken_off_the_superlink_and_dropped(half_uploaded):
    half_uploaded.leave(["message-2"])
    assert pulled(half_uploaded, ["message-1"], 0.2) == []
    assert "message-2" not in half_uploaded._client._replies
    assert pulled(half_uploaded, ["message-2"], 0.2) == []


def test_replies_under_way_are_given_up_at_the_end_so_that_the_process_can_end(stock_grid):
    before = set(threading.enumerate())
    with pulling_side_by_side(stock_grid):
        assert pulled(stock_grid, ["message-1", "message-2"], 20) == [2]
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()


class ManyReplies:
    """A SuperLink that announces a whole reply to everything it is asked for; it counts what was downloaded."""

    def __init__(self) -> None:
        self.downloaded = set[str]()
        self._message_of: dict[str, str] = {}
        self._content: dict[str, bytes] = {}
        self._announced = set[str]()

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        answer = PullAppMessagesResponse()
        for key in request.message_ids:
            if key not in self._announced:
                self._announced.add(key)
                asked = Message(RecordDict({"a": ConfigRecord({"b": key})}), 9, "train")
                set_message_id(asked, key)
                reply = Message(RecordDict({"a": ConfigRecord({"b": key})}), reply_to=asked)
                set_message_id(reply, reply.object_id)
                for object_id, each in get_all_nested_objects(reply).items():
                    self._message_of[object_id] = key
                    self._content[object_id] = each.deflate()
                answer.messages_list.append(message_to_proto(reply))
                answer.message_object_trees.append(get_object_tree(reply))
        return answer

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        self.downloaded.add(self._message_of[request.object_id])
        content = self._content[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        """Nothing is left to do."""


def test_however_many_answer_at_once_few_replies_are_in_memory_and_none_is_lost(stock_grid):
    stock_grid._client = superlink = ManyReplies()
    waiting = [f"message-{number}" for number in range(100)]
    held, ends = [], time.monotonic() + 60
    with pulling_side_by_side(stock_grid):
        while waiting and time.monotonic() < ends:
            found = list(stock_grid.pull_messages(waiting))
            said = [message.content["a"]["b"] for message in found]
            assert said == [message.metadata.reply_to_message_id for message in found]
            waiting = [key for key in waiting if key not in said]
            time.sleep(0.005)
            held.append(len(superlink.downloaded) - (100 - len(waiting)))
    assert waiting == []
    assert 0 < max(held) <= SIDE_BY_SIDE


def test_a_superlink_that_is_not_there_is_said_in_one_line(tmp_path):
    init_authority(tmp_path, [], datetime.now(timezone.utc))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    api = ControlApi(f"127.0.0.1:{port}", GatewayFiles(tmp_path).ca_certificate.read_bytes())
    for call in (
        lambda: api.run_status("1"), lambda: api.stop_run("1"), lambda: api.unregister_node("1"), api.nodes,
        api.newest_runs,
    ):  # fmt: skip
        with pytest.raises(RoundError, match="no answer from the SuperLink"):
            call()
    with pytest.raises(RoundError, match="RegisterNode: no answer"):
        api.register_node(b"key", "board")


def test_a_part_of_a_message_that_comes_a_moment_later_costs_no_second():
    code = """
import time
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects
from fl_core.flower_private.grid import look_again_soon

asked = []

def pull(object_id):
    asked.append(time.monotonic())
    if len(asked) < 3:
        raise ObjectUnavailableError(object_id)
    return b"part"

look_again_soon()
assert pull_objects(["a"], pull) == {"a": b"part"}
print(asked[-1] - asked[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.0
