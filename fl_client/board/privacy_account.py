"""What a device's data has spent, in words that its owner understands; every figure comes from the ledger itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from fl_client.home import DeviceHome, DeviceSettings
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_db import Entry
from fl_core.privacy.ledger_head import HeadFile
from fl_core.privacy.policy import DevicePolicy

NO_EPSILON = "Not private: named seeds"
"""What stands in place of an epsilon where ``device.yaml`` says ``simulated: true``."""


@dataclass(frozen=True)
class RunAccount:
    """What one run has spent of a device's data, and the most that it asked for; both at ``delta``."""

    name: str
    epsilon: float
    cap: float
    delta: float


@dataclass(frozen=True)
class PrivacyAccount:
    """The state of a device's ledger; epsilon and cap at ``delta``."""

    client_id: str
    epsilon: float | None
    """None where noise comes from named seeds: nothing is private then, whatever the ledger counts."""
    cap: float
    delta: float
    run: RunAccount | None
    """The run that spent last; None where none has, or nothing is private."""
    lost: bool
    """Whether a ledger was lost and begun again: what was spent before stands in it as a sum."""
    unknown: bool
    """Whether nobody knows all of that, so that the whole limit of then counts as spent."""
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
        LedgerError: the ledger is damaged, or not the newest one of the device.
    """
    policy, device = DevicePolicy.load(home.policy_file), home.device
    heads, account = HeadFile(home.head_file), partial(_account, device, policy)
    if not home.ledger_file.exists():  # looking must not make one
        heads.check_gone(home.ledger_file)
        return account((), 0.0, None)
    with closing(Ledger(home.ledger_file, simulated=device.simulated, heads=heads)) as ledger:
        history = ledger.history(device.client_id)
        return account(history, ledger.spent(device.client_id, policy.delta), _last_run(ledger, history))


def _account(
    device: DeviceSettings, policy: DevicePolicy, history: Sequence[Entry], spent: float, run: RunAccount | None
) -> PrivacyAccount:
    kinds = [entry.kind for entry in history if not entry.carried]
    return PrivacyAccount(
        client_id=device.client_id,
        epsilon=None if device.simulated else spent,
        cap=policy.epsilon_cap,
        delta=policy.delta,
        run=None if device.simulated else run,
        lost=any(entry.carried for entry in history),
        unknown=any(entry.carried and entry.body["unknown"] for entry in history),
        begun=kinds.count("reserve"),
        finished=kinds.count("settle"),
        simulated=device.simulated,
    )


def _last_run(ledger: Ledger, history: Sequence[Entry]) -> RunAccount | None:
    """The run of the last reservation that said which it was for."""
    told = [entry for entry in history if entry.run and "run_cap" in entry.body]
    if not told:
        return None
    last, delta = told[-1], float(told[-1].body["delta"])
    spent = ledger.spent_in_run(last.dataset_id, last.run, delta, str(last.body["accountant"]))
    return RunAccount(last.run, spent, float(last.body["run_cap"]), delta)


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
    if account.run is not None:
        run = account.run
        lines.append(
            f"Of that, the last run ({run.name}): epsilon {run.epsilon:.2f} of at most {run.cap:g} that it asked for "
            f"(at delta {run.delta:g})."
        )
    if account.lost:
        lines.append("A ledger was lost and begun again: what it had spent stands in this one as a sum, and counts.")
    if account.unknown:
        lines.append(
            "Not all of it is known to anybody, so the whole limit of that time counts; the epsilon above holds at "
            "twice its delta."
        )
    if account.begun == 0 and not account.lost:
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
