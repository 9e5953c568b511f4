"""A Federation of the wrong parts is refused with every one of them, and one of odd forms is as good as any other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import DataError

X, Y = np.zeros((6, 1, 4), np.float32), np.array([0, 1] * 3)
PART = Examples(X, Y)
EMPTY = Examples(X[:0], Y[:0])
ROWS = "data: groups: group g: expected "


def federation(**parts: Any) -> Federation:
    both = {"a": ClientData(PART, PART), "b": ClientData(PART)}
    return Federation(**({"clients": both, "test": PART, "labels": ("n", "y")} | parts))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"clients": [ClientData(PART)]}, "data: clients: expected a mapping from client_id to ClientData, got list"),
    ({"clients": {"a": (X, Y)}}, "client a: expected ClientData(train, test), got tuple"),
    ({"clients": {"a": PART, "b": PART}}, "client a; client b: expected ClientData(train, test), got Examples"),
    ({"clients": {"a": ClientData(None)}}, "client a, train: expected Examples(x, y), got NoneType"),  # type: ignore[arg-type]
    ({"clients": {"a": ClientData(PART, (X, Y))}}, "client a, test: expected Examples(x, y), got tuple"),  # type: ignore[arg-type]
    ({"test": (X, Y)}, "server test set: expected Examples(x, y), got tuple"),
    ({"test": Examples(X, Y.tolist())}, "server test set: expected targets as a numpy array, got list"),
    ({"test": Examples(X, Y[:2])}, "server test set: expected as many targets as inputs, got 2 for 6"),
    ({"test": Examples(X[:, 0], Y)}, "server test set: expected inputs of shape [N, 1, 4], as others have, got [N, 4]"),
    ({"test": Examples(X, Y[:, None])}, "server test set: expected targets of shape [N], as others have, got [N, 1]"),
    ({"test": Examples(X + np.nan, Y)}, "server test set: expected finite inputs, got NaN or Inf in 24 of 24 values"),
    ({"test": EMPTY}, "server test set: expected at least one example, got none"),
    ({"public": EMPTY}, "public examples: expected at least one example, got none"),
    ({"clients": {"a": ClientData(EMPTY)}}, "client a, train: expected at least one example, got none"),
    ({"clients": {"a": ClientData(PART, EMPTY)}}, "client a, test: expected at least one example, got none"),
    ({"clients": {"a/b": ClientData(PART)}}, "got 'a/b' (try 'a-b')"),
    ({"clients": {0: ClientData(PART), None: ClientData(PART)}}, "got int 0 (try '0'), NoneType None"),
    ({"clients": {"A": ClientData(PART), "a": ClientData(PART)}}, "differ in more than case, got A, a"),
    ({"groups": [1]}, "data: groups: expected a mapping from names to rows of the server test set, got list"),
    ({"groups": {"g": [0, 6]}}, ROWS + "rows 0 to 5 of the server test set, got 0 to 6"),
    ({"groups": {"g": [-1]}}, ROWS + "rows 0 to 5 of the server test set, got -1 to -1"),
    ({"groups": {"g": [1, 1, 2]}}, ROWS + "each row once, got 1 twice"),
    ({"groups": {"g": []}}, ROWS + "at least one row, got none"),
    ({"groups": {"g": Y > 9}}, ROWS + "at least one row, got none"),
    ({"groups": {"g": np.ones(5, bool)}}, ROWS + "whole numbers [rows] or a mask [6], got bool (5,)"),
    ({"groups": {"g": [0.0]}}, ROWS + "whole numbers [rows] or a mask [6], got float64 (1,)"),
    ({"groups": {"g": [0]}, "test": None}, "data: groups: expected a server test set that g are rows of, got none"),
    ({"groups": {3: [0]}}, "data: groups: expected names of groups as text, got int 3"),
    ({"labels": "ny"}, "data: labels: expected a tuple of class names, got str 'ny'"),
    ({"labels": ("n", None)}, "data: labels: expected names of classes as text, got NoneType None"),
    ({"labels": ("n", "n")}, "data: labels: expected a name of its own for each class, got 'n' for 2"),
    ({"labels": ("n", "")}, "data: labels: expected a name of its own for each class, got '' for 1"),
    ({"unit": None}, "data: unit: expected text, got None"),
    ({"unit": ""}, "data: unit: expected text, got ''"),
    ({"not_hidden": 3}, "data: not_hidden: expected text, got 3"),
    ({"input_range": (1.0, -1.0)}, "data: input_range: expected low below high, got (1, -1)"),
    ({"input_range": (0.0, 0.0)}, "data: input_range: expected low below high, got (0, 0)"),
    ({"input_range": 1.0}, "data: input_range: expected two finite numbers (low, high), got 1.0"),
    ({"input_range": (-np.inf, 1)}, "data: input_range: expected two finite numbers (low, high), got (-inf, 1)"),
    ({"input_range": (np.nan, 1)}, "data: input_range: expected two finite numbers (low, high), got (nan, 1)"),
    ({"input_range": (0, True)}, "data: input_range: expected two finite numbers (low, high), got (0, True)"),
    ({"input_range": (0, 1, 2)}, "data: input_range: expected two finite numbers (low, high), got (0, 1, 2)"),
    ({"input_range": (1000, 1001)}, "got (1000, 1001), which is 0.25 steps of the grid"),
    ({"clients": {}, "test": None}, "data: expected clients, a test set or public examples, got none of them"),
]


@pytest.mark.parametrize(("parts", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_wrong_part_is_one_line_with_what_was_expected_and_what_came(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)) as raised:
        federation(**parts).check()
    assert len(raised.value.problems) == 1


def test_all_that_is_wrong_is_said_at_once_and_what_many_share_in_one_line() -> None:
    wide = Examples(X.astype(np.float64), Y)
    clients = {f"c{number}": ClientData(wide) for number in range(9)}
    with pytest.raises(DataError) as raised:
        federation(clients=clients, unit=None, input_range=(2, 1)).check()
    first, *others = raised.value.problems
    assert first.startswith("client c0, train; client c1, train; client c2, train and 6 more: expected inputs of dtype")
    assert [problem.split(":")[1] for problem in others] == [" unit", " input_range"]


def test_odd_forms_become_the_plain_ones() -> None:
    flipped = Examples(X[:, :, ::-1], Y.astype(">i4")[::-1])
    found = federation(
        clients={"a": ClientData(flipped)},
        test=flipped,
        labels=np.array(["n", "y"]),
        groups={"mask": Y == 1, "rows": [4, 0]},
        input_range=np.array([-2, 2]),
    ).check()
    assert found.labels == ("n", "y")
    assert found.input_range == (-2.0, 2.0)
    assert {name: rows.tolist() for name, rows in found.groups.items()} == {"mask": [1, 3, 5], "rows": [4, 0]}
    assert found.clients["a"].train.y.tolist() == Y[::-1].tolist()
    assert found.test is not None
    assert found.test.x is found.clients["a"].train.x  # shared before, and not copied twice


@pytest.mark.parametrize("labels", [(0, 1), [0, 1], range(2), np.array([0, 1])])
def test_numbers_for_labels_become_text(labels: Any) -> None:
    assert federation(labels=labels).check().labels == ("0", "1")


def test_good_arrays_are_the_users_own_after_the_check() -> None:
    found = federation().check()
    assert found.clients["a"].train is PART
    assert found.test is PART


def test_a_server_needs_no_clients_and_public_targets_may_be_anything() -> None:
    public = Examples(X, np.zeros((6, 3)))
    assert federation(public=public).check().public is public
    assert replace(federation(), clients={}).check().input_shape == (1, 4)


def test_names_of_any_class_of_text_become_plain_text() -> None:
    names = np.unique(["b", "a"])
    made = federation(
        clients={name: ClientData(PART) for name in names},
        labels=tuple(names),
        unit=np.str_("row"),
        groups={names[0]: [0]},
    ).check()
    texts = [*made.clients, *made.labels, *made.groups, made.unit]
    assert texts == ["a", "b", "a", "b", "a", "row"]
    assert {type(text) for text in texts} == {str}
