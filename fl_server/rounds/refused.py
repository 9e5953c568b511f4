"""The quick end of a run that nobody takes part in: every device that was asked first refuses what it is asked."""

from __future__ import annotations

from fl_core.errors import PrivacyError
from fl_server.nodes.members import Nodes
from fl_server.rounds.intake import Tally
from fl_server.rounds.progress import Progress


def end_where_all_refused(progress: Progress, tally: Tally, nodes: Nodes) -> None:
    """Return unless all clients that are there have refused, in a run of which nothing was ever accepted.

    A device refuses by its own policy or ledger, so it would refuse the same plan again.

    Raises:
        PrivacyError: names each reason once, with those who gave it.
    """
    there = {info.client_id for info in nodes.values()}
    if progress.accepted or not there or there - tally.refused.keys():
        return
    clients: dict[str, list[str]] = {}
    for client, reason in sorted(tally.refused.items()):
        clients.setdefault(reason, []).append(client)
    reasons = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in clients.items())
    raise PrivacyError(f"run: expected clients that take part, all of them refused: {reasons}")
