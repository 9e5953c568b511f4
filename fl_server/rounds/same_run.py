"""Whether a run folder is still the one that its checkpoint was made in: its config, and its log of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fl_core.config import Config
from fl_core.errors import RunFolderError
from fl_core.runlog import check_reaches
from fl_server.plan.setup import config_digest, deciding_fields
from fl_server.rounds.checkpoint import Checkpoint, load_checkpoint


def check_same_run(run_dir: Path, config: Config, checkpoint: Checkpoint) -> None:
    """Refuse to go on in a folder that is another one by now; nothing is changed.

    Raises:
        RunFolderError: its config is another one, or its log lacks events of the rounds that are done.
    """
    if checkpoint.config_digest != config_digest(config):
        then = checkpoint.facts.get("config")  # an older version kept none
        changed = "; ".join(_changes(then, deciding_fields(config))) if then else ""
        words = f" ({changed})" if changed else ""
        raise RunFolderError(f"{run_dir}: its checkpoint belongs to another config{words}; nothing was changed")
    check_reaches(run_dir, checkpoint.seq)


def check_log(run_dir: Path) -> None:
    """Refuse to tell of a run whose log lacks events of the rounds that are done, as far as a checkpoint says it.

    Raises:
        RunFolderError: it does, or it is damaged.
    """
    checkpoint = None
    with suppress(RunFolderError):  # a run whose checkpoints are damaged can be told of
        checkpoint = load_checkpoint(run_dir / "checkpoint")
    if checkpoint is not None:
        check_reaches(run_dir, checkpoint.seq)


def _changes(then: object, now: object, name: str = "") -> Iterator[str]:
    """Each field that is not as it was, with what the checkpoint and what the folder says."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in sorted(then.keys() | now.keys()):
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif then != now:
        yield f"{name}: expected {then}, as its checkpoint says, got {now}"
