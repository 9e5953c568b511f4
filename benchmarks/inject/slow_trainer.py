"""A trainer with changed code: a task takes it as many seconds as its first word says, and its plans need no privacy.

    python benchmarks/inject/slow_trainer.py SECONDS --home HOME ...

Its data, its socket, its ledger and the training itself are real. Without the privacy that a board insists on it
trains the very config that the virtual clock is shown with.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import fl_client.trainer.daemon
from fl_client.trainer.calls import Call
from fl_client.trainer.in_process import LocalTrainer
from fl_client.trainer.task import Trainer
from fl_core.questions import TRAIN


def unprotected(clients: Any, ledger: Any, policy: Any, *others: Any, **named: Any) -> Trainer:
    """The trainer without the policy of its device."""
    return Trainer(clients, ledger, lambda: None, *others, **named)


def slowed(trainer: Trainer, client_id: str, seconds: float) -> LocalTrainer:
    """The answers of a trainer whose tasks take ``seconds`` each, from question to answer."""
    slow = LocalTrainer(trainer, client_id)
    quick = slow.answer

    def answer(call: Call) -> bytes:
        began = time.monotonic()
        reply = quick(call)
        if call.question == TRAIN:
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        return reply

    vars(slow)["answer"] = answer
    return slow


if __name__ == "__main__":
    from fl_client.trainer.__main__ import main

    seconds = float(sys.argv.pop(1))
    vars(fl_client.trainer.daemon)["Trainer"] = unprotected
    vars(fl_client.trainer.daemon)["LocalTrainer"] = lambda trainer, client_id: slowed(trainer, client_id, seconds)
    sys.exit(main())
