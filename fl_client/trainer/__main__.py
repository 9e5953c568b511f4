"""``python -m fl_client.trainer``: the trainer's own process; ``fl-client run`` and the system's service start it.

It is apart from ``fl-client`` so that it may run on another Python: the one that a board's torch was built for.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fl_client.trainer.daemon import run_trainer
from fl_core.errors import StonecropError
from fl_core.process.structured_log import say_error, start_logging


def main() -> int:
    """Answer tasks until told to stop; gives the exit code of the error tree's branch."""
    parser = argparse.ArgumentParser(prog="python -m fl_client.trainer", description="The resident trainer.")
    parser.add_argument("--home", type=Path, required=True, help="home of the device, with device.yaml")
    parser.add_argument("--socket", type=Path, help="where to listen (HOME/run/trainer.sock)")
    parser.add_argument("--group", help="group that may use the socket, beside this user")
    parser.add_argument("--metrics-port", type=int, help="loopback port of /metrics and /healthz")
    given = parser.parse_args()
    os.umask(0o077)  # ledger, counters and artefacts are the owner's alone
    try:
        start_logging()
        run_trainer(given.home, given.socket, given.group, given.metrics_port)
    except StonecropError as error:
        for problem in error.problems:
            say_error(problem)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a task that outlived the grace of a stop must not hold the process; the ledger survives it
