"""Devices without a trainer: each makes the calls of a SuperNode over HTTPS, and answers tasks with a made-up update.

Hundreds of them fit into a few processes without torch. A node enrols like a board, shows its certificate to the
gateway, signs with its node key, polls, beats, retries and restarts at a board's intervals; a function stands for its
app and its trainer. Its client classes are Flower's own, private ones (written for flwr 1.41). What nodes do, and
whether they are to be there, stands in one table in a file that all processes map.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import (
    HEARTBEAT_BASE_MULTIPLIER,
    HEARTBEAT_CALL_TIMEOUT,
    HEARTBEAT_DEFAULT_INTERVAL,
    HEARTBEAT_RANDOM_RANGE,
    MAX_RETRY_DELAY,
)
from flwr.common.serde import message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.retry import exponential
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fl_client.node.gateway_call import trusting
from fl_client.node.identity import load_identity
from fl_client.node.keys import node_key_of
from fl_core import __version__, wire
from fl_core.flower_private import set_message_id
from fl_core.flower_private.supernode import BUSY_FOR_S, pause_s
from fl_core.process.supervise import STEADY_S
from fl_core.questions import INFO, TRAIN
from fl_core.records import decode_model, decode_plan, encode_info
from fl_core.types import ClientInfo, ClientUpdate, Part
from fl_core.update import encode_update
from strategies.base import MODEL_PART

TABLE = "nodes.table"
ROW = np.dtype(
    [
        ("away", "u1"),  # written by whoever starts the nodes, all else by the node
        ("heard_s", "f8"),  # time.monotonic() of the newest answer to it
        ("requests", "i8"),  # answered
        ("tasks", "i8"),  # updates sent
        ("unreachable", "i8"),  # calls without an answer
        ("unavailable", "i8"),  # calls answered with 502, 503 or 504
        ("still_online", "i8"),  # activations refused because its earlier life counts as online
        ("refused", "i8"),  # other errors after which a SuperNode ends and is started again
    ]
)
RETRYABLE = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Between two starts of a SuperNode by a board's supervisor."""
_GLANCE_S = 0.1
SIZE_CLASS = 16


class GoneError(Exception):
    """The node is to be away, or everything ends."""


def home_of(folder: Path, number: int) -> Path:
    """The home of a node."""
    return folder / f"node-{number:03d}"


def open_table(folder: Path, nodes: int | None = None) -> np.memmap[Any, Any]:
    """The table of all nodes, one ``ROW`` each; made where ``nodes`` says how many."""
    if nodes is None:
        return np.memmap(folder / TABLE, ROW, "r+")
    return np.memmap(folder / TABLE, ROW, "w+", shape=(nodes,))


@contextmanager
def nodes_up(folder: Path, nodes: int, processes: int) -> Iterator[None]:
    """Processes with all nodes of a folder in them; killed at the end, as nodes lose their power."""
    bounds = np.linspace(0, nodes, processes + 1).astype(int)
    started = [
        subprocess.Popen([sys.executable, __file__, str(folder), str(first), str(last)])
        for first, last in itertools.pairwise(bounds)
        if first < last
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def reply_to(message: Message, client_id: str) -> RecordDict:
    """What this client says to a message of Stonecrop's server: who it is, or a small change of every tensor."""
    if message.metadata.message_type.startswith("query"):
        info = ClientInfo(client_id, SIZE_CLASS, __version__, simulated=False)
        return wire.pack_reply(INFO, encode_info(info))
    plan_bytes, model_bytes = wire.unpack_request(TRAIN, message.content)
    plan = decode_plan(plan_bytes, __version__)
    draw = np.random.default_rng([plan.seed, plan.round, *client_id.encode()])
    model = decode_model(model_bytes)
    delta = {name: draw.standard_normal(tensor.shape, np.float32) * np.float32(1e-4) for name, tensor in model.items()}
    update = ClientUpdate(plan.task_id, client_id, plan.base_version, {MODEL_PART: Part(delta)}, SIZE_CLASS, 1)
    return wire.pack_reply(TRAIN, encode_update(update))


class ProtocolNode:
    """One device; ``run`` in a thread of its own. ``row`` is its part of the table."""

    def __init__(self, home: Path, row: Any, stop: threading.Event) -> None:
        self._identity = load_identity(home)
        self._key = node_key_of(self._identity.node_key)
        self._row = row
        self._stop = stop
        self._counting = threading.Lock()  # objects travel side by side

    def run(self) -> None:
        """Live, die and be started again as a board's SuperNode is, until everything ends."""
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            if self._row["away"]:
                self._stop.wait(_GLANCE_S)
                wait_s = FIRST_WAIT_S
                continue
            began = time.monotonic()
            try:
                with self._fleet() as client:
                    self._live(client)
            except GoneError:
                continue
            except (httpx.HTTPError, ObjectPullError, ObjectPushError):
                wait_s = FIRST_WAIT_S if time.monotonic() - began >= STEADY_S else wait_s
            self._pause(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _fleet(self) -> FleetHttpClient:
        """Flower's client, straight to the gateway with the certificate that a board's forwarder adds."""
        context = trusting(self._identity.ca.read_bytes())
        self._identity.keys.show(context, self._identity.certificate)
        version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
        signing = NodeAuthHttpInterceptor(self._key, self._key.public_key())
        url = f"https://{self._identity.host}:{self._identity.port}"
        return FleetHttpClient(url, interceptors=[version, signing], verify=context)

    def _live(self, client: FleetHttpClient) -> None:
        public_key = public_key_to_bytes(self._key.public_key())
        activation = ActivateNodeRequest(public_key=public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        node = Node(node_id=self._call(client.ActivateNode, activation).node_id)
        beat_at = busy_until = 0.0
        runs: set[int] = set()
        while True:
            now = time.monotonic()
            if now >= beat_at:
                beat = SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
                self._call(client.SendNodeHeartbeat, beat)
                share = HEARTBEAT_BASE_MULTIPLIER + random.uniform(*HEARTBEAT_RANDOM_RANGE)
                beat_at = now + (HEARTBEAT_DEFAULT_INTERVAL - HEARTBEAT_CALL_TIMEOUT) * share
            asked = time.monotonic()
            pulled = self._call(client.PullMessages, PullMessagesRequest(node=node))
            if not pulled.messages_list:
                self._pause(pause_s(busy=now < busy_until, answer_s=time.monotonic() - asked))
                continue
            run_id = pulled.messages_list[0].metadata.run_id
            try:
                if run_id not in runs:
                    run = self._call(client.GetRun, GetRunRequest(node=node, run_id=run_id)).run
                    self._call(client.GetFab, GetFabRequest(node=node, hash_str=run.fab_hash, run_id=run_id))
                    runs.add(run_id)
                self._answer(client, node, run_id, pulled.message_object_trees[0])
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.FORBIDDEN:  # the run is over: its message is dropped
                    raise
            busy_until = time.monotonic() + BUSY_FOR_S

    def _answer(self, client: FleetHttpClient, node: Node, run_id: int, tree: ObjectTree) -> None:
        message = pull_and_inflate_object_from_tree(
            tree,
            make_pull_object_fn_protobuf(lambda request: self._call(client.PullObject, request), node, run_id),
            make_confirm_message_received_fn_protobuf(
                lambda request: self._call(client.ConfirmMessageReceived, request), node, run_id
            ),
            return_type=Message,
        )
        set_message_id(message, tree.object_id)
        reply = Message(reply_to(message, self._identity.client_id), reply_to=message)
        set_message_id(reply, reply.object_id)
        with no_object_id_recompute():
            request = PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[0.0],
            )
            pushed = self._call(client.PushMessages, request)
            push_objects(
                get_all_nested_objects(reply),
                make_push_object_fn_protobuf(
                    lambda request: self._call(client.PushObject, request), node, run_id, pushed.session_id
                ),
                object_ids_to_push=set(pushed.objects_to_push),
            )
        if message.metadata.message_type.startswith("train"):
            self._count("tasks")

    def _call(self, method: Callable[[Any], Any], request: Any) -> Any:
        """One call, tried again as the SuperNode does where the server is away.

        Raises:
            GoneError: the node was to go meanwhile.
            httpx.HTTPError: the server refused, and a SuperNode ends.
        """
        for delay_s in exponential(max_delay=MAX_RETRY_DELAY):
            self._check()
            try:
                answer = method(request)
                self._count("requests")
                self._row["heard_s"] = time.monotonic()
                return answer
            except httpx.TransportError:
                self._count("unreachable")
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in RETRYABLE:
                    activation = isinstance(request, ActivateNodeRequest)
                    early = activation and error.response.status_code == httpx.codes.PRECONDITION_FAILED
                    self._count("still_online" if early else "refused")
                    raise
                self._count("unavailable")
            self._pause(random.uniform(0, delay_s))
        raise GoneError

    def _count(self, field: str) -> None:
        with self._counting:
            self._row[field] += 1

    def _check(self) -> None:
        if self._row["away"] or self._stop.is_set():
            raise GoneError

    def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than the node is there."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not self._row["away"] and not self._stop.is_set():
            self._stop.wait(min(left, 1.0))


def run_nodes() -> None:
    """The nodes FIRST to LAST (exclusive) of a folder, until SIGTERM or until whoever started this is gone."""
    parser = argparse.ArgumentParser(description=run_nodes.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    given = parser.parse_args()
    parent, stop = os.getppid(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    table = open_table(given.folder)
    for number in range(given.first, given.last):
        node = ProtocolNode(home_of(given.folder, number), table[number], stop)
        threading.Thread(target=node.run, name=f"node-{number}", daemon=True).start()
    while not stop.wait(1.0):
        if os.getppid() != parent:
            stop.set()


if __name__ == "__main__":
    run_nodes()
