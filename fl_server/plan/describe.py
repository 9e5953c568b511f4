"""What the events say of a run's data and of its guarantee for single examples: all of it public."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fl_core.config import to_plain
from fl_core.types import ClientInfo
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import dp_terms


def describe_data(setup: Setup) -> dict[str, Any]:
    """The data set, its unit of privacy, its labels and groups, and the metric of the task."""
    section, data = setup.config.data, setup.data
    return {
        "name": section.name or section.factory,
        "unit": data.unit,
        "not_hidden": data.not_hidden,
        "labels": list(data.labels),
        "groups": sorted(data.groups),
        "metric": setup.task.metric_name,
    }


def describe_privacy(setup: Setup, clients: Iterable[ClientInfo]) -> dict[str, Any] | None:
    """The guarantee of the run and the terms of each client; None without a guarantee.

    ``named_seeds`` has the boards whose noise anyone can draw again; no epsilon holds for a run with such a one.
    """
    privacy = setup.config.privacy
    if privacy is None:
        return None
    infos = list(clients)
    terms = {info.client_id: dp_terms(setup, info.size_class) for info in infos}
    fields = ("noise_multiplier", "sample_rate", "steps")
    each = {name: {client: getattr(term, name) for client, term in sorted(terms.items())} for name in fields}
    words = {"unit_text": setup.data.unit, "not_hidden": setup.data.not_hidden}
    simulated = sorted(info.client_id for info in infos if info.simulated)
    marks = {"simulated": bool(simulated), "named_seeds": [] if setup.simulated else simulated}
    return to_plain(privacy) | words | each | marks
