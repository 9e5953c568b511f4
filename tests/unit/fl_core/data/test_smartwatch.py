"""The smartwatch federation: no sample of a recording is in two places, and people held out are nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.data.federation import Federation
from fl_core.data.smartwatch import HELD_OUT, LABELS, smartwatch, split_by_time, windows
from fl_core.errors import ConfigError


@pytest.fixture(scope="module")
def federation() -> Federation:
    return smartwatch().check()


def test_people_are_clients_and_those_held_out_are_the_test_set(federation: Federation) -> None:
    held_out = {f"person-{number:02d}" for number in HELD_OUT}
    assert set(federation.groups) == held_out
    assert len(federation.clients) == 8
    assert not held_out & set(federation.clients)
    rows = np.concatenate(list(federation.groups.values()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(federation.test)))


def test_inputs_lie_in_the_public_range_and_all_exercises_occur(federation: Federation) -> None:
    for client in federation.clients.values():
        assert client.test is not None
        for part in (client.train, client.test):
            assert part.x.shape[1:] == (6, 100)
            assert part.x.dtype == np.float32
            assert np.abs(part.x).max() <= 1.0
            assert set(part.y.tolist()) == set(range(len(LABELS)))


def test_no_window_is_in_two_places(federation: Federation) -> None:
    parts = [part for client in federation.clients.values() for part in (client.train, client.test)]
    every = np.concatenate([part.x.reshape(len(part), -1) for part in [*parts, federation.test]])
    assert len(np.unique(every, axis=0)) == len(every)


def test_windows_share_no_sample_and_keep_the_order() -> None:
    signal_TC = np.stack([np.arange(257), -np.arange(257)], axis=1)
    cut_WCL = windows(signal_TC, 100)
    assert cut_WCL.shape == (2, 2, 100)
    np.testing.assert_array_equal(cut_WCL[:, 0].ravel(), np.arange(200))
    np.testing.assert_array_equal(cut_WCL[:, 1].ravel(), -np.arange(200))


@pytest.mark.parametrize("count", [2, 5, 9, 12, 26])
@pytest.mark.parametrize("gap", [1, 2])
def test_a_gap_lies_between_training_and_test(count: int, gap: int) -> None:
    early, late = split_by_time(np.arange(count)[:, None, None], 0.25, gap)
    assert late.ravel().tolist() == list(range(count - round(count / 4), count))
    assert early.ravel().tolist() == list(range(max(count - round(count / 4) - gap, 0)))


def test_gap_takes_one_window_from_every_recording(federation: Federation) -> None:
    kept = sum(len(client.train) + len(client.test) for client in federation.clients.values())
    wide = smartwatch(gap_windows=3)
    kept_wide = sum(len(client.train) + len(client.test) for client in wide.clients.values())
    recordings = 8 * 14
    assert kept - kept_wide == 2 * recordings


def test_other_people_can_be_held_out_or_nobody() -> None:
    assert list(smartwatch(held_out=[3]).groups) == ["person-03"]
    everyone = smartwatch(held_out=[])
    assert everyone.test is None
    assert len(everyone.clients) == 10


@pytest.mark.parametrize(
    "args",
    [
        {"held_out": [0]},
        {"held_out": list(range(1, 11))},
        {"window_s": 0.1},
        {"test_share": 0.0},
        {"test_share": 0.9},
        {"gap_windows": 0},
    ],
)
def test_arguments_out_of_range_are_named(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"data.args.{next(iter(args))} must"):
        smartwatch(**args)
