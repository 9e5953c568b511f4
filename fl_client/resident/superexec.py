"""``python -m fl_client.resident.superexec``: Flower's SuperExec, whose shells start in a moment.

It takes the arguments of ``flower-superexec``. Each message still has a process of its own, as Flower wants it, but
that is forked from this one, which has imported what every shell needs.
"""

from __future__ import annotations

from fl_core.flower_private.supernode import run_superexec
from fl_core.structured_log import start_logging

if __name__ == "__main__":
    start_logging()
    run_superexec(["fl_client.app"])
