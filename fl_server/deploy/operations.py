"""What an operator asks of a server: make its folder, want a run, wait for it, stop it. The functions behind fl-server.

None of these needs a connection to the server. They write what is wanted into its folder and read what came of it from
the run folder, so they work the same while the server is up, down or just starting.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fl_core.config import Config, to_yaml
from fl_core.errors import ConfigError, RoundError, RunFolderError, StonecropError
from fl_core.files import folder_is_locked, folder_lock, write_atomic
from fl_core.run_folder import begin_run_folder, refuse_at_work, run_is_locked, run_lock
from fl_core.runlog import Event
from fl_server.deploy.home import SETTINGS_FILE, ServerHome, Settings
from fl_server.deploy.run_supervisor import is_complete
from fl_server.gateway.authority import init_authority
from fl_server.gateway.waiting import devices_waiting
from fl_server.plan.checks import check_deployed
from fl_server.plan.validate import checked_setup
from fl_server.watch.failure import Failure
from fl_server.watch.tail import EventTail

POLL_S = 0.2
ENDING_S = 10.0
"""How long a ServerApp may take to end that began before it was known to be unwanted."""
_MOST_NAMED = 3
"""Files that are named where a folder should be empty."""
FLEET_CONFIG = Path(__file__).with_name("fleet.yaml")
"""The config that ``init`` gives an operator to start from."""


class RunStoppedError(StonecropError):
    """A deployed run met an error that it would meet again; the exit code is that error's own."""

    def __init__(self, problems: str | Sequence[str] = (), exit_code: int = StonecropError.exit_code) -> None:
        super().__init__(problems)
        self.exit_code = exit_code


def make_home(folder: Path, settings: Settings) -> ServerHome:
    """A new server's folder: settings, authority, server certificate and a config to edit.

    Raises:
        RunFolderError: there is one already, or the folder holds something else.
    """
    _check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    home = ServerHome(folder.resolve(), settings)
    for each in (home.flower, home.runs, home.logs):
        each.mkdir(mode=0o700, exist_ok=True)
    init_authority(home.folder, [settings.host], datetime.datetime.now(datetime.timezone.utc))
    write_atomic(home.folder / "fleet.yaml", FLEET_CONFIG.read_bytes())
    home.save()
    return home


def _check_new(folder: Path) -> None:
    """Refuse a folder for a new server that holds something."""
    if (folder / SETTINGS_FILE).exists():
        raise RunFolderError(f"{folder}: holds a server already; edit its {SETTINGS_FILE}")
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}: expected a new or an empty folder, got a file")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if found:
        shown = ", ".join(found[:_MOST_NAMED]) + (f" and {len(found) - _MOST_NAMED} more" * (len(found) > _MOST_NAMED))
        raise RunFolderError(f"{folder}: expected a new or an empty folder, found {shown}; nothing was changed")


def want_run(home: ServerHome, config: Config, overwrite: bool) -> Path:
    """Ask for a new run; gives its folder. What can be known to be wrong is said before anything is written.

    Raises:
        RunFolderError: a run of that name is there, or another one is under way.
        ConfigError: the config is wrong; with all of its problems.
        StonecropError: it cannot run for another reason.
    """
    _refuse(home, config.run.name, overwrite)
    if config.run.companion is not None:
        raise ConfigError(f"run.companion: a deployed run has none; expected null, got {config.run.companion!r}")
    check_deployed(config)
    checked_setup(config)
    run_dir = home.runs / config.run.name
    config = replace(config, run=replace(config.run, out=str(home.runs)))
    with _one_order(home):
        _refuse(home, config.run.name, overwrite)  # another command may have been quicker
        home.want(None)  # no server starts it meanwhile
        with run_lock(run_dir, ENDING_S):
            begin_run_folder(run_dir, {"config.yaml": to_yaml(config).encode()})
        home.want(config.run.name)
    return run_dir


def want_again(home: ServerHome, name: str | None) -> Path:
    """Ask for a run that was stopped or failed to go on from its checkpoint, the newest by default; gives its folder.

    Raises:
        RunFolderError: there is no such run, or another one is under way.
    """
    name = name or home.newest()
    if name is None:
        raise RunFolderError(f"{home.runs}: expected a run to go on with, found none")
    run_dir = home.run_dir(name)
    with _one_order(home):
        _refuse_second(home, name)
        Failure.at(run_dir).clear()
        home.want(name)
    return run_dir


def stop_run(home: ServerHome, limit_s: float = 60.0) -> str | None:
    """Ask for no run, and wait until none is at work; gives the name of the one that was under way.

    Raises:
        RoundError: it did not end in time.
    """
    name = home.wanted()
    home.want(None)
    ends = time.monotonic() + limit_s
    while name is not None and is_up(home) and run_is_locked(home.run_dir(name)):
        if time.monotonic() > ends:
            raise RoundError(f"run {name}: expected to end within {limit_s:g} s, is still at work")
        time.sleep(POLL_S)
    return name


def wait_for_run(home: ServerHome, run_dir: Path, show: Callable[[Event], None], say: Callable[[str], None]) -> None:
    """Show the events of a wanted run until it is done, and say in a line why it does not go on for now.

    Raises:
        RunStoppedError: why it will not go on.
        RoundError: somebody else stopped it, or the server is not up.
    """
    tail, said = EventTail(run_dir), ""
    while True:
        _, events = tail.poll()
        for event in events:
            show(event)
        if is_complete(run_dir) and not run_is_locked(run_dir):
            return
        failure = Failure.at(run_dir)
        found = failure.read()
        if found and failure.is_final:
            raise RunStoppedError(found["problems"], found["exit_code"])
        if found and found["reason"] != said:
            said = found["reason"]
            _say_why(home, said, say)
        if home.wanted() != run_dir.name and not is_complete(run_dir):
            raise RoundError(f"run {run_dir.name}: was stopped; go on with: fl-server resume {home.folder}")
        if not is_up(home):
            raise RoundError(f"{home.folder}: the server is not up; the run waits for: fl-server up {home.folder}")
        time.sleep(POLL_S)


def _say_why(home: ServerHome, reason: str, say: Callable[[str], None]) -> None:
    """The reason why a run waits to be started again, and the devices that would have to be let in for it."""
    say(f"the run does not go on yet: {reason}")
    for client_id, why in devices_waiting(home.folder, time.time()).items():
        say(f"device {client_id} takes no part: {why}")


def is_up(home: ServerHome) -> bool:
    """Whether ``fl-server up`` is at work on this folder."""
    return folder_is_locked(home.folder)


@contextmanager
def _one_order(home: ServerHome) -> Iterator[None]:
    """Hold what is wanted of a server: of two commands at the same time the second sees what the first has ordered."""
    with folder_lock(home.runs, RunFolderError(f"{home.runs}: another command is at work there"), 2 * ENDING_S):
        yield


def _refuse(home: ServerHome, name: str, overwrite: bool) -> None:
    run_dir = home.runs / name
    _refuse_second(home, name)
    if run_dir.exists() and not overwrite:
        raise RunFolderError(
            f"{run_dir}: holds a run already. Go on with it: fl-server resume {home.folder} {name}. "
            "Keep it and run anew: add run.name=another. Delete it and run anew: --overwrite"
        )
    refuse_at_work(run_dir)


def _refuse_second(home: ServerHome, name: str) -> None:
    ends = time.monotonic() + ENDING_S
    while _is_over(home, wanted := home.wanted()) and is_up(home) and time.monotonic() < ends:
        time.sleep(POLL_S)  # the server is about to see that nothing is wanted any more
    over = _is_over(home, wanted)
    if wanted is not None and wanted != name and not over and not Failure.at(home.runs / wanted).is_final:
        raise RunFolderError(
            f"run {wanted}: is under way; expected one run at a time. Stop it first: fl-server stop {home.folder}"
        )


def _is_over(home: ServerHome, wanted: str | None) -> bool:
    """Whether the run that is wanted has all of its rounds, summary and report, and nobody is at work on it."""
    return wanted is not None and is_complete(home.runs / wanted) and not run_is_locked(home.runs / wanted)
