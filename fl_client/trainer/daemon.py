"""The trainer's own process: opens the home of a device and answers tasks until it is told to stop.

Nothing that a server sends decides what is opened here: data, policy and allow-list come from the home folder alone.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fl_client.home import DeviceHome, open_home
from fl_client.standing import kept_standing
from fl_client.trainer.counters import Spending, TaskCounters
from fl_client.trainer.guard import GuardedTrainer
from fl_client.trainer.in_process import LocalTrainer
from fl_client.trainer.metrics import serve_metrics
from fl_client.trainer.service import Service, listen
from fl_client.trainer.stopping import STEP_S, TASK_S
from fl_client.trainer.task import Trainer
from fl_core.data.datasets import build_federation
from fl_core.data.federation import ClientData
from fl_core.errors import ConfigError, DataError, PolicyError, TrainerError
from fl_core.files import folder_lock
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_head import HeadFile
from fl_core.privacy.policy import DevicePolicy
from fl_core.process.table import health_by_process
from fl_core.rng import NoiseSource, SecretNoise, seeded_noise
from fl_core.types import RoundPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenTrainer:
    """A device's trainer with what was opened for it."""

    trainer: GuardedTrainer
    ledger: Ledger
    policy: DevicePolicy
    """As it was at the start."""
    home: DeviceHome
    give_up: threading.Event
    """Set where the running task is to end with its step."""

    def spending(self) -> Spending:
        """What the device's data has spent, by its policy as it is now; while that is damaged, as it began."""
        device, policy = self.home.device, self.policy
        with suppress(PolicyError):
            policy = policy_of(self.home)
        spent = None if device.simulated else self.ledger.spent(device.client_id, policy.delta)
        return Spending(spent, policy.epsilon_cap, policy.delta, device.simulated)


def open_trainer(home: DeviceHome) -> OpenTrainer:
    """The trainer of a device: its own data, policy and ledger, and secret noise.

    Raises:
        PolicyError: the home holds no readable ``policy.json``: a device without limits of its own trains nothing.
        LedgerError: the ledger is damaged, is not the newest one of the device, or was begun with the other value of
            ``simulated``.
        DataError: the data set does not say which client this device is.
    """
    import torch

    device = home.device
    policy = policy_of(home)
    data = open_data(home)
    threads = device.threads or (1 if device.simulated else None)  # more threads may sum in another order
    if threads is not None:
        torch.set_num_threads(threads)
    ledger = Ledger(home.ledger_file, simulated=device.simulated, heads=HeadFile(home.head_file))
    if not home.head_file.exists() and ledger.events(device.client_id):
        logger.warning("%s: no head of the ledger is kept; it is taken for the newest one", home.head_file)
    ledger.keep_head(device.client_id)
    noise = seeded_noise if device.simulated else secret_noise
    clients = {device.client_id: data}
    named = device.simulated
    give_up = threading.Event()
    trainer = Trainer(
        clients, ledger, partial(policy_of, home), noise, home.artifacts,
        simulated=named, tells_epsilon=not named, check=lambda: _check(give_up),
    )  # fmt: skip
    return OpenTrainer(GuardedTrainer(LocalTrainer(trainer, device.client_id), home), ledger, policy, home, give_up)


def policy_of(home: DeviceHome) -> DevicePolicy:
    """What the device allows now: its owner may edit the file at any time, and every task goes by what it says then.

    Raises:
        PolicyError: it is gone or cannot be read; it is never replaced by another policy.
    """
    return DevicePolicy.load(home.policy_file)


def _check(give_up: threading.Event) -> None:
    if give_up.is_set():
        raise TrainerError("trainer: it was stopped before the task was done")


def open_data(home: DeviceHome) -> ClientData:
    """The examples of this device.

    Raises:
        DataError: the data set has several clients, and none is named as this device.
    """
    said, client_id = home.device.data, home.device.client_id
    clients = build_federation(said.name, said.factory, said.args, said.partition, said.seed).clients
    wanted = said.client or client_id
    if said.client is None and len(clients) == 1:
        return next(iter(clients.values()))
    if wanted not in clients:
        raise DataError(f"data.client: expected one of {', '.join(sorted(clients))}, got {wanted!r}")
    return clients[wanted]


def secret_noise(plan: RoundPlan) -> NoiseSource:
    """Noise that nobody can draw again."""
    return SecretNoise()


@contextmanager
def held(home: DeviceHome) -> Iterator[None]:
    """Hold a home for this process; the operating system lets go of it however the process ends.

    Raises:
        ConfigError: another trainer holds it.
    """
    home.run_folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(home.folder, ConfigError(f"{home.folder}: another trainer is at work in this home")):
        yield


def run_trainer(folder: Path, socket: Path | None, group: str | None, metrics_port: int | None) -> None:
    """Answer tasks with the trainer of the home ``folder`` until SIGTERM or SIGINT.

    Args:
        folder: the home.
        socket: where to listen; inside the home by default.
        group: the group that may ask, beside this user.
        metrics_port: of ``/metrics`` and ``/healthz`` on loopback; none by default.

    Raises:
        StonecropError: the home cannot be opened or is in use; nothing listens then.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    home = open_home(folder)
    os.chdir(home.folder)  # the owner's modules may lie there, and nowhere else by chance
    with held(home):
        opened = open_trainer(home)
        counters = TaskCounters(home.run_folder / "counts.json")
        service = Service(opened.trainer, opened.spending, counters, opened.give_up)
        server = listen(service, socket or home.socket, group)

        def figures() -> dict[str, object]:
            found = {
                "processes": health_by_process(home.run_folder),
                "server_trouble": kept_standing(home.folder).trouble,
            }
            return {**service.status(), **found}

        with serve_metrics(metrics_port, figures):
            logger.info("client %s: the trainer listens at %s", home.device.client_id, socket or home.socket)
            stop.wait()
            calls = server.stop(TASK_S + STEP_S)  # no further one is taken; a shell that waits gets its reply
            if service.stop(TASK_S, STEP_S):
                calls.wait()
                opened.ledger.close()
