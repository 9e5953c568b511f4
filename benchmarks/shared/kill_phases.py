"""What a round is doing for one board, told from the run's events and the board's ledger; kills meet each phase.

A phase is what was seen when a kill was decided; finding the process takes some more hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.privacy.ledger_db import Entry
from fl_core.runlog import Event

ASKED = "task under way"
TRAINING = "training"
REPLY = "reply under way"
OTHERS_WORK = "others at work"
CLOSING = "closing, checkpoint"
PHASES = (ASKED, TRAINING, REPLY, OTHERS_WORK, CLOSING)
"""In the order in which a board meets them; the last one ends with the start of the next round."""
WITH_SHELL = (ASKED, TRAINING, REPLY)
"""Those in which a board has the process of a message."""


def phase_of(events: Sequence[Event], person: str, people: Sequence[str], head: Entry | None) -> str:
    """The phase in which a board is.

    Args:
        events: of the run, as they hold now.
        person: whose board.
        people: all who are asked in each round.
        head: the last entry of the board's ledger.
    """
    summed = [event for event in events if event["kind"] == "client_finished"]
    begun = max((event["round"] for event in events if event["kind"] == "round_started"), default=0)
    came = {event["client_id"] for event in summed if event["round"] == begun}
    over = any(event["kind"] == "round_finished" and event["round"] == begun for event in events)
    if over or came >= set(people):
        return CLOSING
    if person in came:
        return OTHERS_WORK
    if head is None or head.task_id in {event["task_id"] for event in summed if event["client_id"] == person}:
        return ASKED
    return TRAINING if head.kind == "reserve" else REPLY


def schedule_of(kills: int, names: Sequence[str]) -> list[tuple[str, str]]:
    """Faults in turn, each with the next of its phases at every turn."""
    plan = []
    for number in range(kills):
        turn, place = divmod(number, len(names))
        phases = WITH_SHELL if names[place] == "shell" else PHASES
        plan.append((names[place], phases[(turn + place) % len(phases)]))
    return plan
