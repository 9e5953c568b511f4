"""The frozen records that travel between server and client, and the tensors in them.

``Tensors`` is the one form in which weights leave a process: numpy arrays by name, float32 unless said otherwise.
Nothing here knows Flower, torch or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fl_core.errors import WireError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Tensors = Mapping[str, FloatArray]

SCHEMA_VERSION = 2
"""Version of the records in this module; a client refuses a plan of another version by name."""

DpOrigin = Literal["none", "dpsgd", "gaussian"]
"""Why a part of an update may leave a device: no DP in this run, DP-SGD, or noise on a bounded sum."""


@dataclass(frozen=True)
class DpTerms:
    """What one client's local training promises under per-example DP-SGD (arXiv 1607.00133).

    All of it is public: it depends on the size class fixed at enrolment, never on the example count.
    """

    epsilon: float
    """Cap of what the whole run spends at ``delta``; what the data may spend for ever, a device's policy says."""
    delta: float
    clip_norm: float
    noise_multiplier: float
    """Standard deviation of the noise on the summed gradient, in units of ``clip_norm``."""
    sample_rate: float
    """Probability with which each example enters a batch, independently (Poisson sampling)."""
    steps: int
    """Noisy steps of one round."""
    normaliser: float
    """The noisy sum is divided by this public number, the expected batch size of the size class."""
    accountant: str = "rdp"


@dataclass(frozen=True)
class RoundPlan:
    """What one client is asked to do in one round. ``task_id`` is the same whenever the same work is asked for."""

    task_id: str
    run: str
    round: int
    client_id: str
    base_version: int
    """Rounds finished before this one: the version of the global model that travels with the plan."""
    seed: int
    """Seed of the run; a board uses it for nothing that must stay secret."""
    rounds: int
    training: Mapping[str, Any]
    """What ``TrainingSpec`` needs, as plain values: task, model, local training, quantization, strategy, export."""
    dp: DpTerms | None
    accepted: str | None = None
    """The task_id of this client's last update that was summed: what the client remembers of it becomes current."""
    run_id: str = ""
    """Tells the run from any other that was or will be called ``run``: caps of a run count by it."""
    asks: tuple[str, ...] = ()
    """Parts that the update must hold beside those of the strategy; each one's row is in ``fl_core.parts``."""
    schema_version: int = SCHEMA_VERSION
    code_version: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "asks", tuple(self.asks))  # JSON knows no tuples


def check_version(fields: Mapping[str, Any], own_code: str) -> None:
    """Refuse a plan, as plain fields, that other code made: before anything else in it is read.

    Raises:
        WireError: names both versions.
    """
    schema, code = fields.get("schema_version"), fields.get("code_version")
    if schema != SCHEMA_VERSION or code != own_code:
        raise WireError(
            f"plan: expected schema {SCHEMA_VERSION} and code {own_code}, got schema {schema} and code {code}; "
            "install the same release of Stonecrop on server and device"
        )


@dataclass(frozen=True)
class Part:
    """One named group of tensors of an update; what else holds for it, its row in ``fl_core.parts`` says."""

    tensors: Tensors
    dp_origin: DpOrigin = "none"


@dataclass(frozen=True)
class ClientUpdate:
    """What one client sends back. ``weight`` is its example count without DP and exactly 1 under DP."""

    task_id: str
    client_id: str
    base_version: int
    parts: Mapping[str, Part]
    weight: int
    local_steps: int
    epsilon: float | None = None
    """What the client's ledger says is spent so far on its data, this task included; null without DP."""
    simulated: Mapping[str, float] = field(default_factory=dict)
    """Figures that only a simulator may see (training loss, example count); a board leaves this empty."""


@dataclass(frozen=True)
class ClientInfo:
    """What a client says of itself when asked: all of it public."""

    client_id: str
    size_class: int
    """Order of magnitude of its example count, fixed at enrolment (a power of the square root of two)."""
    code_version: str
    simulated: bool
    """True where noise and sampling come from named seeds, so that its epsilon protects nobody."""
    device: Mapping[str, float] = field(default_factory=dict)
    """What its sensors read now, as far as it has them: ``battery_share``, ``charging``, ``temperature_c``."""
    schema_version: int = SCHEMA_VERSION
