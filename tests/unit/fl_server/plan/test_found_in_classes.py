"""A label that no client has an example of is told; all else is not."""

from __future__ import annotations

import dataclasses

import pytest
import toy

from fl_core.config.load import from_plain
from fl_core.data.federation import Federation
from fl_server.plan.setup import Setup


def lines(federation: Federation, task: str = "classification") -> list[str]:
    plain = {
        "run": {"name": "r", "rounds": 1}, "data": {"factory": "toy:data"}, "model": {"factory": "toy:model"},
        "task": {"name": task},
    }  # fmt: skip
    return [str(found) for found in Setup.of(from_plain(plain), federation).findings if found.topic == "classes"]


@pytest.mark.parametrize(("more", "named"), [(1, "z0"), (2, "z0, z1"), (7, "z0, z1, z2, z3, z4 and 2 more")])
def test_labels_without_examples_are_named(more: int, named: str) -> None:
    known = toy.data()
    labels = (*known.labels, *(f"z{number}" for number in range(more)))
    (line,) = lines(dataclasses.replace(known, labels=labels))
    assert f"{more} of {len(labels)} labels have no training example with any client: {named};" in line


def test_nothing_is_said_where_all_have_some_or_examples_are_on_devices() -> None:
    known = toy.data()
    assert lines(known) == []
    assert lines(dataclasses.replace(known, labels=(*known.labels, "z"), clients={})) == []
