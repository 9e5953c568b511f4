"""What a device's data has spent, in words that its owner understands; every figure comes from the ledger itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fl_client.home import DeviceHome
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy

NO_EPSILON = "Not private: named seeds"
"""What stands in place of an epsilon where ``device.yaml`` says ``simulated: true``."""


@dataclass(frozen=True)
class PrivacyAccount:
    """The state of a device's ledger; epsilon and cap at ``delta``."""

    client_id: str
    epsilon: float | None
    """None where noise comes from named seeds: nothing is private then, whatever the ledger counts."""
    cap: float
    delta: float
    begun: int
    """Tasks that were begun: each has spent in full, whatever became of it."""
    finished: int
    """Tasks whose result was kept, to be sent."""
    simulated: bool
    """True where noise comes from named seeds."""


def account_of(home: DeviceHome) -> PrivacyAccount:
    """Read the ledger of a device; it may be in use.

    Raises:
        PolicyError: there is no readable policy, so nothing says what is allowed.
        LedgerError: the ledger is damaged.
    """
    policy = DevicePolicy.load(home.policy_file)
    device = home.device
    if not home.ledger_file.exists():  # looking must not make one
        nothing = None if device.simulated else 0.0
        return PrivacyAccount(device.client_id, nothing, policy.epsilon_cap, policy.delta, 0, 0, device.simulated)
    ledger = Ledger(home.ledger_file, simulated=device.simulated)
    try:
        kinds = [entry.kind for entry in ledger.history(device.client_id)]
        spent = None if device.simulated else ledger.spent(device.client_id, policy.delta)
    finally:
        ledger.close()
    begun, finished = kinds.count("reserve"), kinds.count("settle")
    return PrivacyAccount(device.client_id, spent, policy.epsilon_cap, policy.delta, begun, finished, device.simulated)


def in_words(account: PrivacyAccount) -> str:
    """The account for a person: what was given away, what is left, what it means."""
    lines = [f"Device {account.client_id}: {account.begun} tasks begun, {account.finished} finished."]
    if account.epsilon is None:
        lines.append(
            f"{NO_EPSILON}: it draws its noise from them, for tests, and so can anyone. No epsilon holds for it."
        )
        return "\n".join(lines)
    lines.append(
        f"Spent: epsilon {account.epsilon:.2f} of at most {account.cap:g} (at delta {account.delta:g}), "
        f"{account.epsilon / account.cap:.0%} of what its policy allows, over all runs."
    )
    if account.begun == 0:
        lines.append("Nothing learned from this device's data has left it.")
        return "\n".join(lines)
    lines.append(
        "What that means: somebody who sees all that this device ever sent, and knows all of its data but one example, "
        f"finds out whether that example was there with odds at most {_factor(account.epsilon)} times better than a "
        f"guess, but for a chance of {account.delta:g}."
    )
    if account.begun > account.finished:
        lines.append(
            f"{account.begun - account.finished} tasks were begun and not finished (a power cut, or one runs now); "
            "they count in full."
        )
    lines.append(
        "Nothing is left: the device refuses every further task."
        if account.epsilon >= account.cap
        else "When the limit is reached the device refuses; only its owner can raise it, in policy.json."
    )
    return "\n".join(lines)


def _factor(epsilon: float) -> str:
    """e to the epsilon, rounded up."""
    return f"{math.ceil(math.exp(epsilon) * 10) / 10:g}" if epsilon < 20 else f"e^{epsilon:.0f}"
