"""Robust rules that are not told how many clients may lie: what they take for granted, and what that costs.

A rule without a number withstands as many liars as it can among a round's updates. That is the safest it can do and the
dearest: whatever is left out of a round is left out of honest work too, which shows where clients' data differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fl_core.findings import Finding
from strategies.base import Strategy
from strategies.robust.nnm import NearestNeighbourMixing
from strategies.robust.rule import CountedRule
from strategies.robust.trimmed_mean import TrimmedMean

if TYPE_CHECKING:
    from fl_server.plan.inspected import Inspected


def find_unstated_liars(inspected: Inspected) -> Iterable[Finding]:
    """Every rule whose number of liars is not said, with the one that it takes."""
    updates = inspected.config.clients.per_round or len(inspected.federation.clients)
    for field, rule in _counted(inspected.strategy):
        if rule.byzantine is None:
            yield Finding(
                "byzantine",
                f"{field}.args.byzantine is not said, so {type(rule).__name__} withstands {_most(rule, updates)}; say "
                "how many may lie: every one more costs honest work, on unlike clients many points of accuracy",
            )


def _counted(strategy: Strategy) -> Iterator[tuple[str, CountedRule | NearestNeighbourMixing]]:
    """Every rule that takes a number of liars, from the outermost inwards, with the field that makes it."""
    field: str = "strategy"
    inside: Strategy | None = strategy
    while inside is not None:
        if isinstance(inside, (CountedRule, NearestNeighbourMixing)):
            yield field, inside
        field, inside = f"{field}.args.inner", getattr(inside, "inner", None)


def _most(rule: CountedRule | NearestNeighbourMixing, updates: int) -> str:
    if updates == 0:  # a server that has not met its clients
        return "as many liars as it can"
    most = rule.withstands(updates)
    same = ", which makes it the median" if most and isinstance(rule, TrimmedMean) else ""
    return f"as many liars as it can, {most or 'none'} among a round's {updates} updates{same}"
