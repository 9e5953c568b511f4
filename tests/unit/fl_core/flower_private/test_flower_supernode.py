"""A SuperNode asks as often as fits, and loses no message, whatever becomes of the process that answers it."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal

from fl_core.flower_private import identify_process, set_message_id, supernode
from fl_core.flower_private.supernode import BUSY_FOR_S, BUSY_POLL_S, IDLE_POLL_S, LONGEST_REST_S, REPLY_POLL_S


@pytest.fixture
def loop(monkeypatch):
    """The time of a SuperNode's loop: what it slept, and what a question takes."""
    slept: list[float] = []
    now = [1000.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(supernode.time, "sleep", sleep)
    monkeypatch.setattr(supernode.time, "monotonic", lambda: now[0])
    return supernode.PollingTime(), slept, now


def test_a_supernode_asks_oftener_only_while_it_gets_messages(loop):
    clock, slept, now = loop
    clock.sleep(IDLE_POLL_S)
    clock.sleep(0.5)
    clock.sleep(IDLE_POLL_S)
    now[0] += BUSY_FOR_S + 1
    clock.sleep(0.5)
    now[0] += BUSY_FOR_S + 1
    clock.sleep(IDLE_POLL_S)
    assert slept == [IDLE_POLL_S, REPLY_POLL_S, BUSY_POLL_S, REPLY_POLL_S, IDLE_POLL_S]


def test_a_supernode_asks_a_slow_server_for_a_tenth_of_its_time_at_most(loop):
    clock, slept, now = loop
    clock.sleep(0.5)
    clock.sleep(IDLE_POLL_S)
    for answer_s in (0.02, 0.3, 2.0, 0.02):
        now[0] += answer_s
        clock.sleep(IDLE_POLL_S)
    assert slept[1:] == pytest.approx([BUSY_POLL_S, BUSY_POLL_S, 2.7, LONGEST_REST_S, BUSY_POLL_S])


def test_what_a_supernode_did_for_a_message_does_not_count_as_an_answers_time(loop):
    clock, slept, now = loop
    clock.sleep(IDLE_POLL_S)
    now[0] += 5.0
    clock.sleep(0.5)
    now[0] += 0.01
    clock.sleep(IDLE_POLL_S)
    assert slept == [IDLE_POLL_S, REPLY_POLL_S, BUSY_POLL_S]


FORKS = """
import ctypes, http.server, os, queue, signal, threading, time
from pathlib import Path
from flwr.supercore.constant import TaskType
from flwr.supercore.exit import add_exit_handler
from flwr.supercore.superexec.executor.types import ExecutionSpec
from flwr.supercore.utils import disable_process_dumping
from fl_client.app import app
from fl_core.bundle import check_bundle
from fl_core.flower_private.superexec import forking_executor

asked = queue.Queue()
children = Path(f"/proc/self/task/{os.getpid()}/children")

class SuperNode(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked.put((self.path.rpartition("/")[2], *self.headers.values()))
        if "refused" in self.headers.values() or self.path.endswith("push-task-output"):
            return self.send_error(403)
        time.sleep(600)

    def log_message(self, *words):
        pass

add_exit_handler(lambda: print("an exit of the SuperExec in", os.getpid(), flush=True))
signal.signal(signal.SIGTERM, lambda *_: print("a signal of the SuperExec", flush=True))
node = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SuperNode)
executor = forking_executor(app, check_bundle)
if os.geteuid() == 0:  # most boards' SuperExec is not root; reading (a capability) is all that is left of it here
    libc = ctypes.CDLL(None)
    libc.prctl(8, 1)  # PR_SET_KEEPCAPS
    os.setresuid(65534, 65534, 65534)
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(1 << 2, 1 << 2)) == 0
disable_process_dumping(strict=True)  # as a SuperExec does first: from here on /proc/self is not its own
threading.Thread(target=node.serve_forever, daemon=True).start()
for token in ("refused", "killed"):
    executor.launch(ExecutionSpec(
        task_type=TaskType.CLIENT_APP, runtime_api_address=f"127.0.0.1:{node.server_port}", token=token,
        insecure=True, root_certificates_path=None, runtime_dependency_install=False, parent_pid=os.getpid(),
        suppress_output=False, task_id=1, fab_hash=None,
    ))
    while token not in asked.get(timeout=60):
        pass
    (child,) = children.read_text().split()
    print("a ClientApp asked:", token, Path(f"/proc/{child}/comm").read_text().strip(), flush=True)
    if token == "killed":
        os.kill(int(child), signal.SIGKILL)
    while children.read_text():
        executor.reconcile()
        time.sleep(0.01)
while not {"push-task-output", "killed"} <= set(asked.get(timeout=60)):
    pass
print("the SuperExec said that it is lost", flush=True)
os._exit(0)
"""


def test_a_forked_client_app_asks_for_its_message_and_is_missed_when_it_is_killed(tmp_path):
    script, said = tmp_path / "forks.py", tmp_path / "said.txt"
    script.write_text(FORKS)
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # Not through a pipe, which a ClientApp that looks for its SuperNode in vain would hold open.
    with said.open("w") as file:
        process = subprocess.Popen([sys.executable, script], stdout=file, stderr=file, env=path, start_new_session=True)
    try:
        assert process.wait(timeout=150) == 0, said.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    asked = [line for line in said.read_text().splitlines() if line.startswith("a ClientApp asked")]
    assert asked == ["a ClientApp asked: refused flwr-clientapp", "a ClientApp asked: killed flwr-clientapp"]
    assert "of the SuperExec" not in said.read_text()
    assert said.read_text().endswith("the SuperExec said that it is lost\n")


LOOP_ENDS = """
import threading, time
from flwr.supernode import cli
from fl_core.flower_private.supernode import run_supernode

def loop_ends():
    threading.Thread(target=time.sleep, args=(600,)).start()  # what serves the SuperExec
    print("the last words before", flush=True)

cli.flower_supernode = loop_ends
run_supernode([], lambda folder: None)
"""


def test_a_supernode_whose_loop_has_ended_is_no_process_any_more():
    done = subprocess.run([sys.executable, "-c", LOOP_ENDS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == "the last words before\n"
    assert "has lost its connection" in done.stderr


@pytest.fixture
def node_state():
    """A SuperNode's state with one message, its task and the task's token."""
    identify_process(5)
    state = supernode.state_of_one_message()(ObjectStoreFactory().store())
    state.set_node_id(9)
    message = Message(RecordDict({}), 9, "train")
    set_message_id(message, "message-1")
    task_id = state.create_task(task_type=TaskType.CLIENT_APP, run_id=5, fab_hash="abc")
    state.store_message(message)
    assert state.claim_task(task_id)
    return state, task_id, message


def replies(state):
    return [
        (reply.metadata.reply_to_message_id, reply.has_error() and reply.error.code)
        for reply in state.get_messages_legacy(is_reply=True)
    ]


@pytest.mark.parametrize("took_its_message", [False, True])
def test_a_shell_that_is_lost_is_an_error_at_once_wherever_it_was(node_state, took_its_message):
    state, task_id, _ = node_state
    assert replies(state) == []
    if took_its_message:
        assert state.activate_task(task_id)
        assert len(state.get_messages_legacy(run_ids=[5], is_reply=False)) == 1
    assert replies(state) == []
    assert state.finish_task(task_id, SubStatus.FAILED, "the process ended with -9")
    assert replies(state) == [("message-1", ErrorCode.CLIENT_APP_CRASHED)]
    assert replies(state) == []


def test_a_reply_that_has_come_is_the_only_one(node_state):
    state, task_id, message = node_state
    state.activate_task(task_id)
    state.get_messages_legacy(run_ids=[5], is_reply=False)
    reply = Message(RecordDict({}), reply_to=message)
    set_message_id(reply, "reply-1")
    state.store_message(reply)
    state.finish_task(task_id, SubStatus.FAILED, "the process ended with -9")
    assert replies(state) == [("message-1", False)]
    assert replies(state) == []


def test_a_message_whose_run_ended_on_its_way_never_answers_for_the_next_one():
    identify_process(5)
    store = ObjectStoreFactory().store()
    state = supernode.state_of_one_message()(store)
    state.set_node_id(9)
    state.store_run(Run.create_empty(5))
    messages = []
    for number in (1, 2):
        messages.append(Message(RecordDict({"a": ConfigRecord({"b": number})}), 9, "train"))
        set_message_id(messages[-1], messages[-1].object_id)
    parts = {key: part.deflate() for each in messages for key, part in get_all_nested_objects(each).items()}
    over = [True]

    def pull_object(run_id: int, object_id: str) -> bytes:
        if over[0]:
            raise RunNotRunningException
        return parts[object_id]

    def pull(message: Message) -> int | None:
        return supernode.forgetting(start_client_internal._pull_and_store_message)(
            state=state, object_store=store, node_config={}, get_run=None, get_fab=None, trusted_entities=None,
            receive=lambda: (remove_content_from_message(message), get_object_tree(message)),
            pull_object=pull_object, confirm_message_received=lambda *_: None,
        )  # fmt: skip

    def shell_answers(message: Message) -> str:
        reply = Message(RecordDict({}), reply_to=message)
        set_message_id(reply, f"reply to {message.metadata.message_id}")
        state.store_message(reply)
        return reply.metadata.message_id

    assert pull(messages[0]) is None
    (dropped,) = state.get_tasks()
    token = state.claim_task(dropped.task_id)
    shell_answers(messages[0])
    over[0] = False
    assert pull(messages[1]) == 5
    assert state.get_task_by_token(token) is None
    assert state.get_messages_legacy(is_reply=True) == []
    wanted = shell_answers(messages[1])
    assert [reply.metadata.message_id for reply in state.get_messages_legacy(is_reply=True)] == [wanted]


def test_the_supernodes_loop_still_sleeps_as_expected():
    tree = ast.parse(inspect.getsource(start_client_internal))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"]
    assert sorted(ast.unparse(call.args[0]) for call in calls) == ["0.5", "0.5", "3"]
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in used if name.startswith("time.")} == {"time.sleep"}
