"""``python -m fl_client.board.superexec``: Flower's SuperExec, whose shells start in a moment.

It takes the arguments of ``flower-superexec``. Each message still has a process of its own, as Flower wants it, but
that is forked from this one, which has imported what every shell needs. A shell runs the installed code: of the bundle
that a server sends nothing is unpacked, and a message with another bundle than this version's is refused.
"""

from __future__ import annotations

from fl_client.app import app
from fl_core.bundle import check_bundle
from fl_core.flower_private.superexec import run_superexec
from fl_core.process.loopback import keep_loopback_direct
from fl_core.process.structured_log import start_logging

if __name__ == "__main__":
    start_logging()
    keep_loopback_direct()  # as a service it has no supervisor that has seen to it
    run_superexec(app, check_bundle)
