"""What a run that fails leaves to be read: its reason in ``failure.json``, and the report with that reason on top."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fl_core.errors import StonecropError
from fl_core.runlog import is_finished
from fl_core.storage import storage_error
from fl_server.report.build import build_report
from fl_server.watch.failure import Failure


@contextmanager
def failure_kept(run_dir: Path) -> Iterator[None]:
    """Work on the run in ``run_dir``, which this process holds: forget why it stopped before, keep why it stops now.

    Raises:
        Exception: whatever stopped it.
    """
    failure = Failure.at(run_dir)
    failure.clear()
    own = run_dir.stat()
    try:
        yield
    except Exception as error:
        told = storage_error(error) if isinstance(error, OSError) else error
        with suppress(OSError, StonecropError):  # the error itself says more than that it cannot be kept
            if os.path.samestat(own, run_dir.stat()):  # else the folder is another run's by now
                failure.write(told)
                if not is_finished(run_dir):
                    build_report(run_dir)
        raise
