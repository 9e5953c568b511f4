"""How long a board's trainer may take to stop: the times that trainer, supervisor and systemd must agree on.

The privacy of a running task is spent already, so a stop waits for its end, and for the end of its step after that.
What ended in time is stored in the ledger and is the answer when the server asks again; what did not is lost.
"""

from __future__ import annotations

TASK_S = 30.0
"""How long a stop waits for the running task."""
STEP_S = 5.0
"""How long it then waits for the running step, at whose end the task is given up."""
TRAINER_STOP_S = TASK_S + STEP_S + 5.0
"""How long a supervisor lets a trainer end by itself, before it kills it."""
UNIT_STOP_S = TRAINER_STOP_S + 20.0
"""How long systemd lets a unit end by itself."""
