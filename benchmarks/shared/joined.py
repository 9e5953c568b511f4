"""The smartwatch data with everybody's training examples in one place: the bound that a federation is measured by.

A data factory for configs. One client trains on all people's examples, or on a single person's; the server's test set
is everybody's own held-out part and the people who train nowhere, each person a group of their own. So the simulator
that trains the federation trains its bounds too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.data.smartwatch import smartwatch
from fl_core.errors import ConfigError

OWN, UNSEEN = "own ", "unseen "
"""How the names of groups begin: a person's own held-out part, or a person who trains nowhere."""


def joined_smartwatch(people: Sequence[str] = (), **args: Any) -> Federation:
    """A federation of one client.

    Args:
        people: whose training examples it holds, by client_id of ``smartwatch``; none names everybody.
        args: those of ``smartwatch``.

    Raises:
        ConfigError: a name is nobody's.
    """
    base = smartwatch(**args)
    names = sorted(people or base.clients)
    if not set(names) <= base.clients.keys():
        raise ConfigError(f"data.args.people: expected some of {sorted(base.clients)}, got {names}")
    parts = {f"{OWN}{name}": client.test for name, client in base.clients.items() if client.test is not None}
    if base.test is not None:
        parts |= {f"{UNSEEN}{name}": base.test.take(rows) for name, rows in base.groups.items()}
    ends = np.cumsum([0, *(len(part) for part in parts.values())])
    return Federation(
        clients={"joined": ClientData(_join([base.clients[name].train for name in names]))},
        test=_join(list(parts.values())),
        unit=base.unit,
        not_hidden=base.not_hidden,
        labels=base.labels,
        input_range=base.input_range,
        groups={name: np.arange(low, high) for name, low, high in zip(parts, ends[:-1], ends[1:], strict=True)},
    )


def _join(parts: Sequence[Examples]) -> Examples:
    return Examples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
