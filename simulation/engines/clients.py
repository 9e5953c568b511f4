"""The simulated clients: their data, one ledger for all of them, and noise from named seeds.

A simulation protects nobody: whoever has the seed can draw the noise again. Its ledger is the real one all the same,
so a run spends, refuses and survives a crash as boards do.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

from fl_client.app import make_client_app
from fl_client.shell.trainer_api import TrainerApi
from fl_client.trainer.in_process import InProcessTrainer, LocalTrainer
from fl_client.trainer.task import Trainer
from fl_core.config import Config
from fl_core.data.federation import Federation
from fl_core.errors import LedgerError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.questions import Question, Request
from fl_core.rng import seeded_noise
from simulation.attacks.registry import poisoned
from simulation.client_ledger import client_folder, ledger_of_clients
from simulation.engines.in_process import SharedFailureError


def build_trainer(config: Config, federation: Federation, run_dir: Path) -> Trainer:
    """The trainer of all simulated clients."""
    folder = client_folder(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    ledger, policy = Ledger(ledger_of_clients(run_dir), simulated=True), simulated_policy(config)
    return Trainer(poisoned(config, federation), ledger, lambda: policy, seeded_noise, folder, simulated=True)


def simulated_policy(config: Config) -> DevicePolicy | None:
    """A device that allows what the config asks for and not more; none where the config has no privacy."""
    privacy = config.privacy
    if privacy is None:
        return None
    return DevicePolicy(
        epsilon_cap=privacy.epsilon,
        delta=privacy.delta,
        max_clip_norm=privacy.clip_norm,
        min_noise_multiplier=1e-3,
        max_sample_rate=1.0,
    )


class _OneLedgerForAll:
    """A trainer whose ledger is that of all clients: what is wrong with that ends the run, and is no client's word."""

    def __init__(self, trainer: TrainerApi) -> None:
        self._trainer = trainer

    def ask(self, question: Question, request: Request) -> bytes:
        """The trainer's reply to one question."""
        try:
            return self._trainer.ask(question, request)
        except LedgerError as error:
            raise SharedFailureError(error) from error


def client_app(trainer: Trainer) -> ClientApp:
    """The ClientApp of the boards, over a trainer in this process."""

    def trainer_of(context: Context) -> TrainerApi:
        return _OneLedgerForAll(InProcessTrainer(LocalTrainer(trainer, str(context.node_config["client-id"]))))

    return make_client_app(trainer_of)
