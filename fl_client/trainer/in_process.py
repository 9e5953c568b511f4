"""The trainer of this very process as its shell sees it: plain calls for one of the clients whose data it holds."""

from __future__ import annotations

from fl_client.trainer.task import ClientTask, Trainer
from fl_core.errors import TrainerError
from fl_core.types import ClientInfo, RoundPlan, Tensors


class LocalTrainer:
    """``trainer``, asked for the client ``client_id`` alone; what it raises goes to the caller."""

    def __init__(self, trainer: Trainer, client_id: str) -> None:
        self._trainer = trainer
        self._client_id = client_id

    def info(self) -> ClientInfo:
        """See ``Answers``."""
        return self._trainer.info(self._client_id)

    def ranges(self, plan: RoundPlan, model: Tensors) -> bytes:
        """See ``Answers``."""
        return self._trainer.measure_ranges(ClientTask(plan, model))

    def train(self, plan: RoundPlan, model: Tensors) -> bytes:
        """See ``Answers``."""
        (result,) = self._trainer.train_many([ClientTask(plan, model)])
        if result.encoded is None:
            raise result.error or TrainerError(f"client {self._client_id}: a task gave neither update nor error")
        return result.encoded

    def evaluate(self, plan: RoundPlan, model: Tensors) -> dict[str, float]:
        """See ``Answers``."""
        return self._trainer.evaluate(ClientTask(plan, model))
