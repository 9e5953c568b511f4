"""What the data of a run's clients had spent before it: what a client tells is its total over all runs."""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.findings import Finding
from fl_server.watch.state import RunState


def find_earlier_spending(state: RunState) -> Iterable[Finding]:
    """Says so where a client's epsilon is more than this run alone may have spent."""
    cap, most = (state.privacy or {}).get("epsilon"), state.epsilon_max
    if cap is None or most is None or most <= cap:
        return
    over = sorted(name for name, client in state.clients.items() if (client.epsilon or 0.0) > cap)
    yield Finding(
        "privacy",
        f"epsilon {most:.3f} is all that a client's data has spent over all runs; this run spends at most {cap:g} of "
        f"it, the rest is of earlier ones ({', '.join(over)})",
    )


def caps_in_words(state: RunState) -> str | None:
    """What a run of devices may spend, before its first round; None for a simulation and without privacy."""
    privacy = state.privacy
    if privacy is None or privacy.get("simulated"):
        return None
    return (
        f"privacy: this run spends epsilon up to {privacy['epsilon']:g} (delta {privacy['delta']:g}) of each device's "
        "data; what that has spent over all runs, and may, each device's own policy and ledger say"
    )
