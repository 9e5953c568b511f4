"""The simulated clients: their data, one ledger for all of them, and noise from named seeds.

A simulation protects nobody: whoever has the seed can draw the noise again. Its ledger is the real one all the same,
so a run spends, refuses and survives a crash as boards do.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fl_client.app import make_client_app
from fl_client.shell.trainer_api import TrainerApi
from fl_client.trainer.in_process import LocalTrainer
from fl_client.trainer.task import Trainer
from fl_core.config import Config, load_config
from fl_core.config.federation import federation_of
from fl_core.data.federation import Federation
from fl_core.flower_private import identify_process
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import seeded_noise
from simulation.attacks.crew import attacked
from simulation.attacks.registry import poisoned
from simulation.engines.grid import RUN_ID, InProcessGrid, nodes_of, run_app
from simulation.fleet.clock import virtual_clock

_worker_app: ClientApp | None = None


def build_trainer(config: Config, federation: Federation, run_dir: Path) -> Trainer:
    """The trainer of all simulated clients."""
    folder = run_dir / "clients"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.sqlite", simulated=True)
    return Trainer(poisoned(config, federation), ledger, simulated_policy(config), seeded_noise, folder, simulated=True)


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


def client_app(trainer: Trainer) -> ClientApp:
    """The ClientApp of the boards, over a trainer in this process."""

    def answers_of(context: Context) -> TrainerApi:
        return LocalTrainer(trainer, str(context.node_config["client-id"]))

    return make_client_app(answers_of)


@contextmanager
def open_grid(config: Config, federation: Federation, run_dir: Path, workers: int) -> Iterator[Grid]:
    """A Grid over all simulated clients, computed here or by ``workers`` processes; the results are the same."""
    nodes = nodes_of(federation.clients)
    clock = virtual_clock(config, federation.clients)
    if workers <= 1:
        torch.set_num_threads(1)
        app = client_app(build_trainer(config, federation, run_dir))
        yield attacked(InProcessGrid(nodes, partial(run_app, app), clock=clock), nodes, config, run_dir)
        return
    context = multiprocessing.get_context("spawn")
    start = (str(run_dir),)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=start) as pool:
        yield attacked(InProcessGrid(nodes, answer_in_worker, pool, clock), nodes, config, run_dir)


def _start_worker(run_dir: str) -> None:
    """Build this worker's own app from the run folder; it shares nothing with the others but the ledger file."""
    global _worker_app
    torch.set_num_threads(1)
    identify_process(RUN_ID)
    folder = Path(run_dir)
    config = load_config(folder / "config.yaml")
    _worker_app = client_app(build_trainer(config, federation_of(config), folder))


def answer_in_worker(message: Message, context: Context) -> Message:
    """A message answered by the app of this worker process."""
    if _worker_app is None:
        raise RuntimeError("a worker process answers only after it was started")
    return _worker_app(message, context)
