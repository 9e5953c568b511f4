"""What a board's shell loads: Flower and a socket client, and neither torch nor data nor ledger."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "opacus", "scipy", "sqlite3", "fl_client.trainer.task", "fl_core.data", "fl_core.privacy")


def test_the_shell_of_a_board_loads_no_torch_and_nothing_private():
    code = f"import sys, fl_client.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_the_supervisor_of_a_board_loads_neither_torch_nor_what_talks_to_a_trainer():
    heavy = ("torch", "flwr", "grpc", "asyncio")
    code = f"import sys, fl_client.cli, fl_client.board.supervise\nprint([n for n in {heavy!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
