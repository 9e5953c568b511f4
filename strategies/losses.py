"""The part ``mean_loss`` of an update: the mean loss of the received model on the client's examples, one number.

For the algorithms that weigh clients by how badly the model serves them. It is private data without noise, so whoever
uses it has the trait ``uses_losses`` and is refused under DP, by the device as well as by the server.
"""

from __future__ import annotations

import numpy as np

from fl_core.errors import UpdateRejectedError
from fl_core.parts import LOSS_PART
from fl_core.types import ClientUpdate, FloatArray
from strategies.client import LocalOutcome


def loss_part(outcome: LocalOutcome) -> dict[str, FloatArray]:
    """The tensors of the part: the mean loss before training, float32 [1].

    Raises:
        ValueError: it was not measured, for the strategy does not say that it ``uses_losses``.
    """
    if outcome.loss_before is None:
        raise ValueError("loss: expected the loss of the received model, got none; is 'uses_losses' among the traits?")
    return {LOSS_PART: np.array([outcome.loss_before], np.float32)}


def loss_of(update: ClientUpdate) -> float:
    """The loss that an admitted update brings.

    Raises:
        UpdateRejectedError: it is below 0, which no mean loss of a task that weighs clients by it may be.
    """
    loss = float(update.parts[LOSS_PART].tensors[LOSS_PART][0])
    if not loss >= 0:
        raise UpdateRejectedError(f"update from client {update.client_id}: expected a loss of at least 0, got {loss}")
    return loss
