"""What the owner of a device does where its newest ledger is lost: begin it again, with all that is known as spent."""

from __future__ import annotations

from collections.abc import Iterator

from fl_client.home import DeviceHome
from fl_core.errors import ConfigError
from fl_core.files import folder_lock
from fl_core.privacy.ledger_head import HeadFile
from fl_core.privacy.ledger_loss import LedgerLoss, begin_again
from fl_core.privacy.policy import DevicePolicy


def replace_ledger(home: DeviceHome) -> LedgerLoss:
    """Put a new ledger in the place of a lost one; its trainer must not be at work.

    Raises:
        ConfigError: nothing is lost, or the trainer is at work.
        PolicyError: there is no readable policy, so nothing says what may be spent.
        LedgerError: nothing says what was spent.
    """
    policy = DevicePolicy.load(home.policy_file)
    with folder_lock(home.folder, ConfigError(f"{home.folder}: its trainer is at work; stop it first")):
        return begin_again(home.ledger_file, HeadFile(home.head_file), policy, simulated=home.device.simulated)


def in_words(loss: LedgerLoss) -> Iterator[str]:
    """What was done, for a person, line by line."""
    yield f"What was wrong: {loss.reason}."
    if loss.set_aside is not None:
        yield f"The file that was not the newest one is kept as {loss.set_aside}."
    for dataset_id, epsilon in loss.epsilon.items():
        yield f"{dataset_id}: the new ledger begins with epsilon {epsilon:.2f} spent."
        if dataset_id in loss.unknown:
            yield (
                f"{dataset_id}: what else was spent is not known to anybody, so all that the policy allows counts as "
                "spent, and the device refuses every task until its owner allows more in policy.json. Whoever does "
                "that adds to a guarantee that was given away once already."
            )
