"""The run folder: events.jsonl, the one source of every figure, and the atomic files beside it.

An event is one line ``{v, seq, time, run, round, kind, visibility, client_id?, ...}``. ``visibility`` is ``public``
for what a server may know in deployment and ``simulation`` for what only a simulator may see. A crash can tear the
last line only; ``open_log`` cuts it off, and resume cuts everything that came after the checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fl_core.errors import RunFolderError
from fl_core.event_lines import parse_event
from fl_core.files import plain_scalar, write_all
from fl_core.storage import naming

EVENTS_VERSION = 1
Visibility = Literal["public", "simulation"]
Event = Mapping[str, Any]

KINDS: Mapping[str, frozenset[str]] = {
    "run_started": frozenset(
        {
            "clients",
            "rounds",
            "strategy",
            "model",
            "seed",
            "privacy",
            "data",
            "initial",
            "weight_bits",
            "ranges",
            "client_bits",
            "findings",
        }
    ),
    "run_resumed": frozenset({"rounds_done"}),
    "round_started": frozenset({"cohort"}),
    "client_finished": frozenset({"client_id", "uplink_bytes", "local_steps", "epsilon"}),
    "client_failed": frozenset({"client_id", "reason"}),
    "client_refused": frozenset({"client_id", "reason"}),
    "client_rejected": frozenset({"client_id", "reason"}),
    "client_missing": frozenset({"client_id", "reason"}),
    "client_dropped": frozenset({"client_id", "reason"}),
    "client_unscored": frozenset({"client_id", "reason"}),
    "client_trained": frozenset({"client_id", "train_loss", "examples", "personal_score"}),
    "client_evaluated": frozenset({"client_id", "examples", "accuracy_float", "accuracy_int8"}),
    "artifact_published": frozenset({"format", "weight_bits", "path", "bytes", "bytes_float", "parity"}),
    "artifact_vetoed": frozenset({"format", "weight_bits", "reason"}),
    "round_published": frozenset({"evaluation", "seconds"}),
    "round_finished": frozenset(
        {"accepted", "rejected", "uplink_bytes", "downlink_bytes", "seconds", "epsilon_max", "evaluation"}
    ),
    "round_timed": frozenset({"virtual_s"}),
    "run_finished": frozenset({"rounds_done", "seconds"}),
}
"""Every kind of event with the fields that it must have."""


class EventBatch:
    """Events that belong together: ``RunLog.append_all`` writes all of them or none.

    Raises:
        RunFolderError: an event has no known kind or lacks a field.
    """

    def __init__(self) -> None:
        self.events: list[_Unwritten] = []

    def append(self, kind: str, round: int, visibility: Visibility = "public", **fields: Any) -> None:
        """Add one event; it gets its number and its time when the batch is written."""
        missing = KINDS.get(kind, frozenset()) - fields.keys()
        if kind not in KINDS or missing:
            raise RunFolderError(f"event {kind}: expected a known kind with all its fields, missing {sorted(missing)}")
        self.events.append(_Unwritten(kind, round, visibility, fields))


@dataclass(frozen=True)
class _Unwritten:
    kind: str
    round: int
    visibility: Visibility
    fields: Event = field(default_factory=dict)


class RunLog:
    """Appends events to ``folder/events.jsonl`` and tells them to its listeners, one at a time whoever appends.

    Any thread may append; a listener is called in the thread that did. What the disk refuses leaves neither half of
    an event nor a gap in their numbers.

    Raises:
        RunFolderError: an event has no known kind or lacks a field, or the folder is another's by now.
        OSError: the operating system refuses to write.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._run = run
        self._listeners: list[Callable[[Event], None]] = []
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "events.jsonl"
        self._seq = _cut(self._path, keep_seq=None)
        self._file = self._open()

    @property
    def seq(self) -> int:
        """Number of the last event written; 0 before the first."""
        return self._seq

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event from now on."""
        self._listeners.append(listener)

    def append(self, kind: str, round: int, visibility: Visibility = "public", **fields: Any) -> None:
        """Write one event; afterwards the operating system has it."""
        batch = EventBatch()
        batch.append(kind, round, visibility, **fields)
        self.append_all(batch)

    def append_all(self, batch: EventBatch) -> None:
        """Write a batch with no event of others and no ``sync`` in between; then tell the listeners."""
        with self._lock:
            self.check_own()
            written = [self._numbered(event, seq) for seq, event in enumerate(batch.events, self._seq + 1)]
            lines = [json.dumps(event, allow_nan=False, default=plain_scalar) + "\n" for event in written]
            self._write("".join(lines).encode())
            self._seq += len(written)
            for event in written:
                for listener in self._listeners:
                    listener(event)

    def check_own(self) -> None:
        """Look whether the folder is still that in which this log was opened.

        Raises:
            RunFolderError: it was deleted, moved or replaced, and whoever writes there now would write into another
                run; or its log was cut.
        """
        with self._lock, suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(self._path)
            if os.path.samestat(self._own, found):
                if found.st_size >= self._bytes:
                    return
                raise RunFolderError(
                    f"{self._path}: expected the {self._bytes} bytes that this run wrote, got {found.st_size}; the run "
                    "ends: put back the file that it had"
                )
        raise RunFolderError(
            f"{self.folder}: was deleted, moved or replaced while this run was at work in it; the run ends and writes "
            "nothing more there. Where the folder was moved, resume it there"
        )

    def _open(self) -> io.FileIO:
        file = self._path.open("ab", buffering=0)
        self._own = os.fstat(file.fileno())
        self._bytes = self._own.st_size
        return file

    def _write(self, data: bytes) -> None:
        try:
            with naming(self._path):
                write_all(self._file.fileno(), data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._bytes)
            raise
        self._bytes += len(data)

    def _numbered(self, event: _Unwritten, seq: int) -> Event:
        return {
            "v": EVENTS_VERSION, "seq": seq, "time": round_time(time.time()), "run": self._run,
            "round": event.round, "kind": event.kind, "visibility": event.visibility, **event.fields,
        }  # fmt: skip

    def sync(self) -> int:
        """Make all events so far survive a power cut; gives the last seq, which a checkpoint keeps."""
        with self._lock, naming(self._path):
            self.check_own()
            os.fsync(self._file.fileno())
            return self._seq

    def truncate(self, seq: int) -> None:
        """Forget everything after event ``seq``: it belongs to a round that is run again."""
        with self._lock:
            self._file.close()
            self._seq = _cut(self._path, keep_seq=seq)
            self._file = self._open()

    def close(self) -> None:
        """Close the file; the log must not be used again."""
        self._file.close()


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a run folder in order; a torn last line is left out.

    Raises:
        RunFolderError: there is no events.jsonl, or a whole line is not the event that comes next.
    """
    path = folder / "events.jsonl"
    if not path.is_file():
        raise RunFolderError(f"{folder}: expected a run folder with events.jsonl, found none")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        yield parse_event(line, path, number)


def check_reaches(folder: Path, seq: int) -> None:
    """Refuse a log that does not hold the events 1 to ``seq``; nothing is changed.

    Raises:
        RunFolderError: the message says which it holds, or which line is damaged.
    """
    path, last = folder / "events.jsonl", 0
    if path.exists():
        for event in read_events(folder):
            last = event["seq"]
    if last < seq:
        came = f"events 1 to {last}" if last else "none"
        raise RunFolderError(
            f"{path}: expected events 1 to {seq}, as its checkpoint says, got {came}; put back the one that the run "
            "had, or start the run anew with --overwrite"
        )


def is_finished(run_dir: Path) -> bool:
    """Whether the last event says that all rounds are done."""
    kind = None
    with suppress(RunFolderError):
        for event in read_events(run_dir):
            kind = event["kind"]
    return kind == "run_finished"


def round_time(seconds: float) -> float:
    """A time to the millisecond."""
    return round(seconds, 3)


def _cut(path: Path, keep_seq: int | None) -> int:
    """Cut a torn tail and all events after ``keep_seq``; gives the seq of the last event that stays."""
    if not path.exists():
        return 0
    keep_bytes = last_seq = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            seq = int(parse_event(line, path, number)["seq"])
            if keep_seq is not None and seq > keep_seq:
                break
            keep_bytes += len(line)
            last_seq = seq
    with path.open("rb+") as file:
        file.truncate(keep_bytes)
    return last_seq
