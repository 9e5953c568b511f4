"""``python -m fl_client.trainer``: the trainer's own process; ``fl-client run`` and the system's service start it.

It is apart from ``fl-client`` so that it may run on another Python: the one that a board's torch was built for.
"""

from __future__ import annotations

import argparse
import errno
import os
import sqlite3
import sys
from pathlib import Path

from fl_client.home import run_folder_of
from fl_client.trainer.daemon import run_trainer
from fl_core.errors import StonecropError
from fl_core.process.structured_log import say_error, start_logging
from fl_core.process.table import remove_end, write_end
from fl_core.storage import storage_error

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE)


def main() -> int:
    """Answer tasks until told to stop; gives the exit code of the error tree's branch."""
    parser = argparse.ArgumentParser(prog="python -m fl_client.trainer", description="The resident trainer.")
    parser.add_argument("--home", type=Path, required=True, help="home of the device, with device.yaml")
    parser.add_argument("--socket", type=Path, help="where to listen (HOME/run/trainer.sock)")
    parser.add_argument("--group", help="group that may use the socket, beside this user")
    parser.add_argument("--metrics-port", type=int, help="loopback port of /metrics and /healthz")
    given = parser.parse_args()
    os.umask(0o077)  # ledger, counters and artefacts are the owner's alone
    run_folder = run_folder_of(given.home.resolve())
    remove_end(run_folder)
    try:
        start_logging()
        run_trainer(given.home, given.socket, given.group, given.metrics_port)
    except (StonecropError, OSError) as error:
        told = storage_error(error, "it goes on by itself") if isinstance(error, OSError) else error
        for problem in told.problems:
            say_error(problem)
        code = StonecropError.exit_code if _may_pass(told) else told.exit_code
        write_end(run_folder, str(told), code)
        return code
    return 0


def _may_pass(error: StonecropError) -> bool:
    """Whether it is the machine's state that stands behind an error: a full or failing disk, a file that is in use."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) or (isinstance(cause, OSError) and cause.errno in _PASSING)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a task that outlived the grace of a stop must not hold the process; the ledger survives it
