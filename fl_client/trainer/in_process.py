"""The trainer of this very process: which function answers which question, for one of the clients whose data it holds.

``ANSWERS`` is the trainer's column of the table in ``fl_core.questions``.
"""

from __future__ import annotations

from collections.abc import Callable

from fl_client.trainer.calls import Call, CallTrainer, read_call
from fl_client.trainer.task import Trainer
from fl_core.errors import TrainerError
from fl_core.questions import EVALUATE, INFO, RANGES, TRAIN, Question, Request
from fl_core.records import encode_figures, encode_info

Answer = Callable[[Trainer, str, Call], bytes]
"""The reply of a trainer to a call, for the client with that client_id."""


def _info(trainer: Trainer, client_id: str, call: Call) -> bytes:
    return encode_info(trainer.info(client_id))


def _ranges(trainer: Trainer, client_id: str, call: Call) -> bytes:
    return trainer.measure_ranges(call.task)


def _train(trainer: Trainer, client_id: str, call: Call) -> bytes:
    (result,) = trainer.train_many([call.task])
    if result.encoded is None:
        raise result.error or TrainerError(f"client {client_id}: a task gave neither update nor error")
    return result.encoded


def _evaluate(trainer: Trainer, client_id: str, call: Call) -> bytes:
    return encode_figures(trainer.evaluate(call.task))


ANSWERS: dict[str, Answer] = {
    INFO.name: _info,
    RANGES.name: _ranges,
    TRAIN.name: _train,
    EVALUATE.name: _evaluate,
}
"""By a question's name, the function that answers it."""


class LocalTrainer:
    """``trainer``, asked for the client ``client_id`` alone; what it raises goes to the caller."""

    def __init__(self, trainer: Trainer, client_id: str) -> None:
        self._trainer = trainer
        self._client_id = client_id

    def answer(self, call: Call) -> bytes:
        """The reply to one call, as bytes, from the table of answers."""
        return ANSWERS[call.question.name](self._trainer, self._client_id, call)


class InProcessTrainer:
    """``trainer`` as a shell in the same process sees it: the bytes of a question are read here."""

    def __init__(self, trainer: CallTrainer) -> None:
        self._trainer = trainer

    def ask(self, question: Question, request: Request) -> bytes:
        """The trainer's reply to a question, as bytes; raises what the trainer raised."""
        return self._trainer.answer(read_call(question, request))
