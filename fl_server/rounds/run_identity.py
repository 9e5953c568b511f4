"""The name of a run that no other run has, in its folder from before its first task on."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from fl_core.errors import RunFolderError
from fl_core.files import write_atomic
from fl_server.plan.setup import Setup

RUN_ID_FILE = "run_id"


def with_run_id(setup: Setup, run_dir: Path) -> Setup:
    """The setup with the identity of its run: the one in the folder, or a new one that is put there.

    A simulation's ledger lies in its run folder, so no other run is ever in it; its name will do.

    Raises:
        RunFolderError: the folder holds an empty one.
    """
    if setup.simulated:
        return replace(setup, run_id=setup.config.run.name)
    path = run_dir / RUN_ID_FILE
    if not path.exists():
        write_atomic(path, f"{setup.config.run.name}/{secrets.token_hex(8)}\n".encode())
    run_id = path.read_text(encoding="utf-8").strip()
    if not run_id:
        raise RunFolderError(f"{path}: expected the identity of the run, got an empty file; put it back or run anew")
    return replace(setup, run_id=run_id)
