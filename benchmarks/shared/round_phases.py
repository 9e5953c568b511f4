"""Where the time of a round goes: the way of one message from the server to a device and back, moment by moment.

The moments come from three places, which all run on this machine: events.jsonl for the server, what SuperNode, shell
and trainer log (``stamped/``), and the device's ledger for the start of training. A round waits for its slowest
device, so the way that counts is that of the device whose update came last; it leaves no gap, so its parts sum to the
round.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fl_core.runlog import Event
from shared.printing import Figures

PHASES = (
    "until the SuperNode asks and is told of the message",
    "until the SuperExec asks and starts the shell",
    "the shell starts, with its imports",
    "the shell fetches its task",
    "the shell loads the app and asks the trainer",
    "the trainer works",
    "the reply goes to the SuperNode, which finds it",
    "the reply goes to the server",
    "until the server asks and sums the update",
    "the round is closed",
    "checkpoint, and the next plans",
)
"""What lies between two of a way's twelve moments, the first of which is the start of the round."""

_ROUND = re.compile(r"\[RUN \d+, ROUND (\w+)\]")
_ANSWERED = re.compile(r"run .*, round (\d+): task .* answered")


@dataclass(frozen=True)
class Stamp:
    """One record that a process of a device logged."""

    time_s: float
    device: str
    born_s: float
    words: str


def read_stamps(path: Path) -> list[Stamp]:
    """What ``stamped/`` wrote, in the order of time."""
    fields = (line.split("\t", 3) for line in path.read_text(encoding="utf-8").splitlines())
    return sorted(
        (Stamp(float(time), Path(home).name, float(born), words) for time, home, born, words in fields),
        key=lambda stamp: stamp.time_s,
    )


def ways(
    events: Iterable[Event], stamps: Sequence[Stamp], reserved_s: Mapping[str, Sequence[float]]
) -> list[tuple[float, ...]]:
    """The moments of each round's slowest message, in seconds since 1970; rounds with a gap are left out.

    Args:
        events: of the run.
        stamps: of all devices, in the order of time.
        reserved_s: when each device set privacy aside to begin a task.
    """
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    last: dict[int, tuple[float, str]] = {}
    for event in events:
        number = int(event["round"])
        if event["kind"] == "round_started":
            began[number] = event["time"]
        elif event["kind"] == "round_finished":
            ended[number] = event["time"]
        elif event["kind"] == "client_finished":
            last[number] = (event["time"], event["client_id"])
    found = []
    for number, (summed, device) in sorted(last.items()):
        own = [stamp for stamp in stamps if stamp.device == device]
        inside = _on_device(number, own, reserved_s[device])
        if inside is not None and number in ended and number + 1 in began:
            found.append((began[number], *inside, summed, ended[number], began[number + 1]))
    return found


def _on_device(number: int, stamps: Sequence[Stamp], reserved_s: Sequence[float]) -> tuple[float, ...] | None:
    """The eight moments of a round's message on its device."""
    node: dict[str, float] = {}
    now = ""
    for stamp in stamps:
        if match := _ROUND.match(stamp.words):
            now = match.group(1)
        elif now == str(number) and (word := stamp.words.split()[0]) in ("Receiving:", "Sending:", "Sent"):
            node[word] = stamp.time_s
    if len(node) < 3:
        return None
    from_s, to_s = node["Receiving:"], node["Sending:"]
    between = [stamp for stamp in stamps if from_s <= stamp.time_s <= to_s]
    shell = {stamp.words.partition("]")[2] or stamp.words: stamp for stamp in between if "Start" in stamp.words}
    starts = [stamp for words, stamp in shell.items() if words.startswith("Start `flwr-clientapp`")]
    fetched = [stamp.time_s for words, stamp in shell.items() if "FAB" in words]
    begun = [time_s for time_s in reserved_s if from_s <= time_s <= to_s]
    answered = [stamp.time_s for stamp in between if (m := _ANSWERED.match(stamp.words)) and m.group(1) == str(number)]
    if not (starts and fetched and begun and answered):
        return None
    shell_s = (starts[0].born_s, starts[0].time_s, fetched[0])
    return from_s, *shell_s, begun[0], answered[0], to_s, node["Sent"]


def table_of(found: Sequence[tuple[float, ...]]) -> Figures:
    """Median and longest of each phase, in seconds, and of the whole."""
    spans = [[later - earlier for earlier, later in pairwise(way)] for way in found]
    whole = [way[-1] - way[0] for way in found]
    columns = [*zip(*spans, strict=True)]
    middle = [statistics.median(column) for column in columns]
    rows = [
        (name, f"{median:.2f}", f"{median / sum(middle):.0%}", f"{max(column):.2f}")
        for name, median, column in zip(PHASES, middle, columns, strict=True)
    ]
    rows.append(("sum of the medians", f"{sum(middle):.2f}", "", ""))
    rows.append(("from one round to the next", f"{statistics.median(whole):.2f}", "", f"{max(whole):.2f}"))
    title = f"Where a round goes, the device whose update comes last, {len(found)} rounds"
    return Figures(title, ("phase", "median s", "share", "longest s"), tuple(rows))
