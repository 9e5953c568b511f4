"""Boards for tests: a home folder with toy data, and its trainer as a real process that no test leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import toy
from omegaconf import OmegaConf

from fl_client.shell.trainer_api import TrainerApi
from fl_client.trainer.task import Trainer
from fl_core.errors import TrainerError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.questions import INFO, Question
from fl_core.records import decode_info, encode_plan
from fl_core.rng import seeded_noise
from fl_core.tensorfile import encode_tensors
from fl_core.types import ClientInfo, RoundPlan, Tensors
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "client-2"
POLICY = DevicePolicy(
    epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0
)  # fmt: skip
START_S = 60.0
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    "OMP_NUM_THREADS": "1",
}


def make_home(folder: Path, policy: DevicePolicy | None = POLICY, **fields: object) -> Path:
    """A device that holds one client of the toy data and lets plans name the toy model; ``fields`` replace."""
    folder.mkdir(parents=True, exist_ok=True)
    device = {"client_id": CLIENT, "data": {"factory": "toy:data", "seed": 0}, "factories": ["toy:model"]} | fields
    OmegaConf.save(OmegaConf.create(device), folder / "device.yaml")
    if policy is not None:
        policy.save(folder / "policy.json")
    return folder


def toy_task(out: Path, round: int = 1, steps: int = 2, **changes: object) -> tuple[RoundPlan, Tensors]:
    """A plan of the toy federation with DP for the client, and the model that it starts from; ``changes`` replace."""
    config = toy.config(out, privacy={"epsilon": 8.0}, clients={"local_steps": steps}, run={"rounds": 3})
    setup = Setup.of(config, toy.data())
    trainer = Trainer(toy.data().clients, Ledger(out / "l", simulated=True), lambda: None, seeded_noise, out, True)
    plan = plan_of(setup, trainer.info(CLIENT), round, round - 1)
    return replace(plan, **changes), setup.initial_state().model


def info_of(trainer: TrainerApi) -> ClientInfo:
    """What a trainer says of its client."""
    return decode_info(trainer.ask(INFO, ()), "trainer")


def asked(trainer: TrainerApi, question: Question, plan: RoundPlan, model: Tensors) -> bytes:
    """A trainer's reply to a question about a plan and the model that it starts from."""
    return trainer.ask(question, (encode_plan(plan), encode_tensors(model)))


@contextmanager
def trainer_process(home: Path, *arguments: str, socket: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """The trainer of ``home``, listening; killed at the end, whatever has happened."""
    path = socket or home / "run" / "trainer.sock"
    path.unlink(missing_ok=True)
    with (home / "trainer.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fl_client.trainer", "--home", str(home), *arguments],
            env=ENVIRONMENT, cwd=ROOT, stdout=log, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        ends = time.monotonic() + START_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > ends:
                raise TrainerError(f"trainer: did not start\n{(home / 'trainer.log').read_text()}")
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
