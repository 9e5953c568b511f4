"""What cannot go together, in one table, with the reason; ``checks`` asks it before anything starts.

A guarantee that would not hold is no matter of degree, so these are errors and not warnings. What a single section of
the config can see by itself is refused there; here stand the pairs of parts that do not know of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fl_core.config import Config
from strategies.base import REFUSED_UNDER_DP, Trait
from strategies.central.user_level import REFUSED_INSIDE

Has = Callable[[Config, frozenset[Trait]], bool]


@dataclass(frozen=True)
class Pair:
    """Two parts of a run that must not meet. ``field`` is the one to change first."""

    field: str
    left: str
    right: str
    reason: str


def _trait(name: Trait) -> Has:
    return lambda config, traits: name in traits


RUN_PARTS: Mapping[str, Has] = {
    "asynchronous rounds": _trait("asynchronous"),
    "a robust rule": _trait("robust"),
    "noise for whole clients": _trait("central_dp"),
    "losses of clients": _trait("uses_losses"),
    "step counts of clients": _trait("uses_step_counts"),
    "several phases of training": _trait("several_phases"),
    "per-example privacy": lambda config, _: config.privacy is not None,
    "running ranges": lambda config, _: config.quant.ranges == "ema",
    "ranges from noisy histograms": lambda config, _: config.quant.ranges == "dp_histogram",
    "a number of clients a round": lambda config, _: config.clients.per_round is not None,
    "a rule of selection": lambda config, _: config.clients.selection.name != "uniform",
    "over-selection": lambda config, _: config.clients.over_select > 1,
}
"""How each part of a pair is seen in a config and in its strategy's traits."""

FORBIDDEN: tuple[Pair, ...] = (
    Pair("strategy", "losses of clients", "per-example privacy", REFUSED_UNDER_DP["uses_losses"]),
    Pair("strategy", "step counts of clients", "per-example privacy", REFUSED_UNDER_DP["uses_step_counts"]),
    Pair("strategy", "several phases of training", "per-example privacy", REFUSED_UNDER_DP["several_phases"]),
    Pair("quant.ranges", "running ranges", "per-example privacy", "raw activation ranges would leave a device"),
    Pair(
        "quant.ranges", "running ranges", "a robust rule",
        "one client moves a mean of ranges as far as it likes, whatever the rule does with its weights",
    ),
    Pair("strategy", "asynchronous rounds", "noise for whole clients", REFUSED_INSIDE["asynchronous"]),
    Pair("strategy", "a robust rule", "noise for whole clients", REFUSED_INSIDE["robust"]),
    Pair("strategy", "losses of clients", "noise for whole clients", REFUSED_INSIDE["uses_losses"]),
    Pair(
        "quant.ranges", "running ranges", "noise for whole clients",
        "the ranges of single clients would enter the model without noise",
    ),
    Pair(
        "quant.ranges", "ranges from noisy histograms", "noise for whole clients",
        "the histograms hide one example, not one client",
    ),
    Pair(
        "clients.per_round", "a number of clients a round", "noise for whole clients",
        "each client is drawn by itself with strategy.args.sample_rate; a cohort of fixed size is another mechanism",
    ),
    Pair(
        "clients.selection", "a rule of selection", "noise for whole clients",
        "who is asked must be drawn just as the accountant assumes",
    ),
    Pair(
        "clients.over_select", "over-selection", "noise for whole clients",
        "whose update counts would depend on who else was quick",
    ),
)  # fmt: skip
"""Every pair that is refused."""
