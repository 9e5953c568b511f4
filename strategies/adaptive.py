"""What FedAdagrad, FedAdam and FedYogi share: algorithm 2 of Reddi et al. 2020, arXiv 2003.00295.

With the mean update Delta of round t, and m_0 = 0, v_0 = tau^2 for every weight:

    m_t = beta_1 * m_{t-1} + (1 - beta_1) * Delta
    v_t = what tells the three apart
    x_t = x_{t-1} + server_learning_rate * m_t / (sqrt(v_t) + tau)

There is no correction of the first rounds' bias, as in the paper. What each of the three does with v is a function
that it hands to ``adaptive_step``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fl_core.tree import zeros_like
from fl_core.types import FloatArray, Tensors
from strategies.base import MODEL_PART, StrategyState

FIRST_MOMENT = "first_moment"
SECOND_MOMENT = "second_moment"

Moment = npt.NDArray[np.float64]
SecondMoment = Callable[[Moment, Moment], Moment]
"""The new v from the old one and Delta squared, element by element."""


def check_adaptive(server_learning_rate: float, tau: float, **betas: float) -> None:
    """Refuse hyperparameters of an adaptive server optimiser that are out of range.

    Raises:
        ValueError: names the one, what was expected and what came.
    """
    for name, value in (("server_learning_rate", server_learning_rate), ("tau", tau)):
        if not value > 0:
            raise ValueError(f"strategy.args.{name}: expected above 0, got {value}")
    for name, value in betas.items():
        if not 0 <= value < 1:
            raise ValueError(f"strategy.args.{name}: expected 0 to below 1, got {value}")


def adaptive_state(model: Tensors, tau: float) -> StrategyState:
    """Moments before the first round: m = 0 and v = tau^2, the least that the paper's analysis allows."""
    floor = {name: np.full_like(tensor, tau * tau) for name, tensor in sorted(model.items())}
    return StrategyState(model=model, slots={FIRST_MOMENT: zeros_like(model), SECOND_MOMENT: floor})


def adaptive_step(
    state: StrategyState,
    means: Mapping[str, Tensors],
    second_moment: SecondMoment,
    server_learning_rate: float,
    beta_1: float,
    tau: float,
) -> StrategyState:
    """One round of algorithm 2 of arXiv 2003.00295, in float64 and rounded once to float32."""
    model: dict[str, FloatArray] = {}
    firsts: dict[str, FloatArray] = {}
    seconds: dict[str, FloatArray] = {}
    for name in sorted(state.model):
        delta, old_m, old_v = (
            group[name].astype(np.float64)
            for group in (means[MODEL_PART], state.slots[FIRST_MOMENT], state.slots[SECOND_MOMENT])
        )
        m = beta_1 * old_m + (1 - beta_1) * delta
        v = second_moment(old_v, np.square(delta))
        step = server_learning_rate * m / (np.sqrt(v) + tau)
        model[name] = (state.model[name].astype(np.float64) + step).astype(np.float32)
        firsts[name], seconds[name] = m.astype(np.float32), v.astype(np.float32)
    return replace(state, model=model, slots={FIRST_MOMENT: firsts, SECOND_MOMENT: seconds})
