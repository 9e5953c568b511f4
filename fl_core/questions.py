"""What a server may ask a client: the table that server, shell, socket and trainer read.

A question goes out as named items of bytes and comes back as one. To add one:

1. Write its row here: a name, a message type of Flower (``train``, ``evaluate`` or ``query``, where taken with a
   ``.name`` of its own behind it), the items that travel with it, the item that is its reply, and its policy.
2. Write the function that answers it, and enter it under the same name in ``fl_client.trainer.in_process.ANSWERS``.

The ClientApp, the trainer's socket and the simulation take it from there. A server asks it with
``fl_server.nodes.mailbox.ask``, and reads the reply with ``fl_core.wire.unpack_reply``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ItemForm = Literal["json", "bytes"]
"""How an item lies in a message: as text, or as bytes in pieces."""
Policy = Literal["open", "ledger", "simulated"]
"""Where a question is answered.

``open``: everywhere, for the reply holds nothing private. ``ledger``: where the client's ledger can reserve what the
plan spends. ``simulated``: only where no privacy is promised, for the reply says something of private examples.
"""
Request = tuple[bytes, ...]
"""The bytes of the items that a question comes with, in the order of its row."""


@dataclass(frozen=True)
class Item:
    """One named part of a message, opaque to whoever only hands it on."""

    name: str
    form: ItemForm


PLAN = Item("plan", "json")
MODEL = Item("model", "bytes")
CLIENT_INFO = Item("info", "json")
UPDATE = Item("update", "bytes")
FIGURES = Item("figures", "json")


@dataclass(frozen=True)
class Question:
    """One row of the table."""

    name: str
    """What the trainer and its socket call it."""
    message_type: str
    """What Flower calls it."""
    request: tuple[Item, ...]
    reply: Item
    policy: Policy


INFO = Question("info", "query", (), CLIENT_INFO, "open")
RANGES = Question("ranges", "query.ranges", (PLAN, MODEL), UPDATE, "ledger")
TRAIN = Question("train", "train", (PLAN, MODEL), UPDATE, "ledger")
EVALUATE = Question("evaluate", "evaluate", (PLAN, MODEL), FIGURES, "simulated")

QUESTIONS: dict[str, Question] = {question.name: question for question in (INFO, RANGES, TRAIN, EVALUATE)}
"""All questions, by name."""
