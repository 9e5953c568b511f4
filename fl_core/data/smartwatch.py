"""Shoulder exercises felt by a smartwatch: ten people, seven exercises, six axes at 50 Hz (arXiv 1802.01489).

The recordings come with seglearn (BSD). They are cut into windows that do not overlap, so that one movement lies in
one example. Each person is a client; the later part of each recording is that client's own test, with at least one
whole window left out between the two. Some people are held out whole: nothing of them is at any client.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from fl_core.data.cache import cached_arrays
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import ConfigError
from fl_core.packaged import packaged_bytes
from fl_core.types import Array

LABELS = ("pendulum", "abduction", "forward elevation", "internal rotation", "external rotation", "trapezius", "row")
PEOPLE = 10
RATE_HZ = 50
# The people exercised in pairs, at one pace (1+2, 3+4, 5+6, 7+10, 8+9: lengths and rhythms of their recordings
# agree). A pair is held out together, so that nobody who trains has moved in time with somebody who is tested.
HELD_OUT = (8, 9)

# Public constants near the full scale of what a wrist does, in g and rad/s; nothing is measured on the data.
_FULL_SCALE = np.array([2.0, 2.0, 2.0, 6.0, 6.0, 6.0], np.float32)

_FILE_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_ARRAYS_DIGEST = "f91c1c65b011a84959513bad9d1fd461ce6363dd41c03eef6267820ae61cd405"


def smartwatch(
    held_out: Sequence[int] = HELD_OUT, window_s: float = 2.0, test_share: float = 0.25, gap_windows: int = 1
) -> Federation:
    """The federation: inputs float32 [6, window_s * 50 Hz] in -1..1, one class of ``LABELS`` each.

    Args:
        held_out: numbers (1 to 10) of the people that are the server's test set.
        window_s: length of a window, in seconds.
        test_share: share of each recording, at its end, that is the client's own test.
        gap_windows: whole windows left out between training and test; at least 1.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the packaged recordings are missing or not the expected ones.
    """
    length = round(window_s * RATE_HZ)
    _check(held_out, length, test_share, gap_windows)
    stored = cached_arrays("smartwatch", _ARRAYS_DIGEST, _convert)
    ends = np.cumsum(stored["length"])
    recordings = np.split(stored["signal"], ends[:-1])
    clients: dict[str, ClientData] = {}
    unseen: dict[str, Examples] = {}
    for person in range(1, PEOPLE + 1):
        own = np.flatnonzero(stored["person"] == person)
        cut = [(windows(recordings[i], length), int(stored["exercise"][i])) for i in own]
        name = f"person-{person:02d}"
        if person in held_out:
            unseen[name] = _join([(window, label) for window, label in cut])
            continue
        parts = [(*split_by_time(window, test_share, gap_windows), label) for window, label in cut]
        train = _join([(early, label) for early, _, label in parts])
        test = _join([(late, label) for _, late, label in parts])
        clients[name] = ClientData(train, test)
    sizes = np.cumsum([0, *(len(part) for part in unseen.values())])
    return Federation(
        clients=clients,
        test=_stack(list(unseen.values())) if unseen else None,
        unit=f"a window of {window_s:g} s of one person's wrist movement",
        not_hidden="a person, a recording or a habit: they span many windows, and each window is protected on its own",
        labels=LABELS,
        input_range=(-1.0, 1.0),
        groups={name: np.arange(low, high) for name, low, high in zip(unseen, sizes[:-1], sizes[1:], strict=True)},
    )


def windows(signal_TC: Array, length: int) -> Array:
    """Consecutive windows [W, C, length] that share no sample; what is left at the end is dropped."""
    count = len(signal_TC) // length
    return np.ascontiguousarray(signal_TC[: count * length].reshape(count, length, -1).transpose(0, 2, 1))


def split_by_time(window_WCL: Array, test_share: float, gap_windows: int) -> tuple[Array, Array]:
    """(early, late) windows of one recording, with ``gap_windows`` between them that are in neither."""
    first_late = len(window_WCL) - round(test_share * len(window_WCL))
    return window_WCL[: max(first_late - gap_windows, 0)], window_WCL[first_late:]


def _join(parts: Sequence[tuple[Array, int]]) -> Examples:
    x = np.concatenate([window for window, _ in parts])
    y = np.concatenate([np.full(len(window), label, np.int64) for window, label in parts])
    return Examples(np.clip(x / _FULL_SCALE[None, :, None], -1, 1).astype(np.float32), y)


def _stack(parts: Sequence[Examples]) -> Examples:
    return Examples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))


def _convert() -> dict[str, Array]:
    content = packaged_bytes("seglearn", "data/watch_dataset.npy", _FILE_SHA256)
    # The hash above is what makes this pickle safe to open.
    packed = np.load(io.BytesIO(content), allow_pickle=True).item()
    return {
        "signal": np.concatenate(packed["X"]).astype(np.float32),
        "length": np.array([len(recording) for recording in packed["X"]], np.int64),
        "person": packed["subject"].astype(np.int64),
        "exercise": packed["y"].astype(np.int64),
    }


def _check(held_out: Sequence[int], length: int, test_share: float, gap_windows: int) -> None:
    problems = []
    if not set(held_out) < set(range(1, PEOPLE + 1)):
        problems.append(f"data.args.held_out must be some of the people 1 to {PEOPLE}, got {list(held_out)}")
    if not 25 <= length <= 300:
        problems.append(f"data.args.window_s must be 0.5 to 6, got {length / RATE_HZ:g}")
    if not 0 < test_share <= 0.5:
        problems.append(f"data.args.test_share must be above 0 and at most 0.5, got {test_share}")
    if gap_windows < 1:
        problems.append(f"data.args.gap_windows must be at least 1, got {gap_windows}")
    if problems:
        raise ConfigError(problems)
