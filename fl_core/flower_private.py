"""Every private name of Flower that Stonecrop needs, in one place, with the reason.

``Message()`` asks ``TaskIdentity`` who is sending, which Flower's own processes set before an app runs; an in-process
Grid has to set it itself. A message gets its id from the SuperLink, so an in-process Grid gives it one.
"""

from __future__ import annotations

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
