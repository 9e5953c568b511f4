"""Every private name of Flower that Stonecrop needs, in one place, with the reason.

Here: who sends a message. ``Message()`` asks ``TaskIdentity`` for it, which Flower's own processes set before an app
runs; an in-process Grid has to set it itself. A message gets its id from the SuperLink, so an in-process Grid gives it
one. The processes of a board are in ``supernode`` and ``superexec``, those of a server in ``superlink``, and a
ServerApp's Grid in ``grid``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

TESTED_FLWR = "1.41"
"""The release whose private names these are; a test fails when another one is installed."""

SERVER_NODE_ID = 1


def identify_process(run_id: int) -> None:
    """Let messages be made in this process, as the server's side of run ``run_id``."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would have given it."""
    message.metadata.__dict__["_message_id"] = message_id


@contextmanager
def borrowed_identity() -> Iterator[None]:
    """An identity for messages that are made here and sent nowhere; the process has its own again afterwards."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    identify_process(run_id=0)
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
