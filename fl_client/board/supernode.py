"""``python -m fl_client.board.supernode``: Flower's SuperNode, asking oftener while a run is under way.

It takes the arguments of ``flower-supernode``; a board that is idle polls as rarely as that does. Its SuperExec is the
module ``superexec`` beside this one, and the lease of the node that it holds at the server lies in Flower's folder.
"""

from __future__ import annotations

import sys

from fl_client.node.lease import NodeLease
from fl_core.flower_private.supernode import run_supernode
from fl_core.process.structured_log import start_logging

if __name__ == "__main__":
    start_logging()
    superexec = [sys.executable, "-m", "fl_client.board.superexec"]
    run_supernode(superexec, lambda folder: NodeLease(folder / "lease.json"))
