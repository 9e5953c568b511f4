"""Sees to it that the wanted run is under way: submits it, notices its death, resumes it, stops what is not wanted.

A ServerApp that works holds the lock of its run folder, and the operating system lets go of it however the process
dies; so whether a run is under way is never a matter of time-outs or of what Flower still believes. A resumed run goes
on from its checkpoint. Tasks of the open round are asked for again under the same task_ids, and a device that has
finished one resends the stored reply: each counts once, in the round that sums it. Replies to the dead ServerApp
belong to a Flower run that is stopped, so nothing reads them.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fl_core.errors import RoundError, RunFolderError
from fl_core.files import read_json, write_json
from fl_core.run_folder import run_is_locked
from fl_core.runlog import is_finished
from fl_server.deploy.control import UNDER_WAY, Control
from fl_server.deploy.home import ServerHome
from fl_server.watch.failure import Failure

logger = logging.getLogger(__name__)

START_S = 60.0
"""How long a submitted run may take to show that it works."""
ASK_EVERY_S = 3.0
"""How often Flower is asked about a run that does not show it yet."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Back-off between two starts of a run that gets nowhere."""


@dataclass
class RunSupervisor:
    """Brings about what ``wanted.json`` says; call ``step`` again and again while the SuperLink is up."""

    home: ServerHome
    control: Control
    trouble: str | None = None
    """Why the wanted run does not go on right now."""
    _at_work: bool = False
    """Whether the ServerApp of the newest submission has been seen at work."""
    _submitted: float = 0.0
    _asked: float = 0.0
    _wait_s: float = FIRST_WAIT_S
    _not_before: float = 0.0
    _rounds_seen: int = field(default=-1)
    _refusal: str | None = None
    """What went wrong at the newest try to start or stop something."""
    _pause_until: float = 0.0

    def step(self) -> None:
        """One look at what is wanted and what is there. What the SuperLink or the disk refuses is tried again."""
        now = time.monotonic()
        if now < self._pause_until:
            return
        try:
            self._look(now)
        except (RoundError, OSError) as error:
            self.trouble = self._refusal = str(error)
            self._pause_until = time.monotonic() + ASK_EVERY_S

    def _look(self, now: float) -> None:
        name = self.home.wanted()
        if name is None:
            self._abandon()
            self.trouble = self._refusal = None
            return
        try:
            run_dir = self.home.run_dir(name)
        except RunFolderError as error:
            self.trouble = str(error)
            return
        if run_is_locked(run_dir):
            self._at_work, self.trouble, self._refusal = True, None, None
        elif is_complete(run_dir):
            self.home.want(None)
            self._forget()
        elif self._is_final(run_dir):
            self._forget()
        elif not self._may_still_come(name, now) and now >= self._not_before:
            self._start(name, run_dir, now)

    def _is_final(self, run_dir: Path) -> bool:
        failure = Failure.at(run_dir)
        found = failure.read()
        self.trouble = found["reason"] if found else self._refusal
        return failure.is_final

    def _may_still_come(self, name: str, now: float) -> bool:
        """Whether the newest submission is of this run and has neither worked nor failed yet."""
        newest = self._newest()
        if self._submitted == 0.0 or self._at_work or newest is None or newest[0] != name:
            return False
        if now - self._asked >= ASK_EVERY_S:
            self._asked = now
            with suppress(RoundError):
                if self.control.status(newest[1]) not in UNDER_WAY:
                    return False
        return now - self._submitted < START_S

    def _start(self, name: str, run_dir: Path, now: float) -> None:
        self._abandon()
        progress = _checkpoint_time(run_dir)
        self._wait_s = FIRST_WAIT_S if progress != self._rounds_seen else min(self._wait_s * 2, LONGEST_WAIT_S)
        self._rounds_seen, self._not_before = progress, now + self._wait_s
        run_id = self.control.submit(name)
        try:
            write_json(self._path, {"run": name, "run_id": run_id})
        except OSError:
            self.control.stop(run_id)  # the next server must not meet a run that it knows nothing of
            raise
        Failure.at(run_dir).clear()
        self._refusal = None
        self._submitted = self._asked = time.monotonic()
        self._at_work = False
        logger.info("run %s: started as Flower's run %s", name, run_id)

    def _abandon(self) -> None:
        """Stop what Flower still believes to be under way, whoever submitted it; forgotten is what has ended."""
        newest = self._newest()
        if newest is not None:
            self.control.stop(newest[1])
            self._forget()

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self._submitted, self._at_work = 0.0, False

    @property
    def _path(self) -> Path:
        return self.home.folder / "submitted.json"

    def _newest(self) -> tuple[str, str] | None:
        found = read_json(self._path, "run", "run_id")
        return None if found is None else (str(found["run"]), str(found["run_id"]))


def is_complete(run_dir: Path) -> bool:
    """Whether all rounds are done and the report is written."""
    return (run_dir / "report.html").is_file() and is_finished(run_dir)


def _checkpoint_time(run_dir: Path) -> int:
    path = run_dir / "checkpoint" / "latest.safetensors"
    return path.stat().st_mtime_ns if path.is_file() else 0
