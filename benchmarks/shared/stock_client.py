"""A ClientApp as Flower's own examples have it: the process that Flower starts for a message holds torch and trains.

It trains what a board trains, by the same functions: same model, data, noise and ledger. Where ``whole_opacus`` is in
the run's config it imports Opacus as everybody does.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_client.app import answer
from fl_client.trainer.daemon import secret_noise
from fl_client.trainer.in_process import InProcessTrainer, LocalTrainer
from fl_client.trainer.task import Trainer
from fl_core import __version__, wire
from fl_core.config import load_config
from fl_core.config.federation import federation_of
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.questions import TRAIN
from fl_core.records import decode_plan

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of one client."""
    if context.run_config["whole_opacus"]:
        importlib.import_module("opacus").PrivacyEngine  # noqa: B018  # runs its __init__, which loads all of it
    plan = decode_plan(wire.unpack_request(TRAIN, message.content)[0], __version__)
    data = federation_of(load_config(Path(str(context.run_config["config"])))).clients[plan.client_id]
    policy = DevicePolicy(1e6, 1e-5, max_clip_norm=1.0, min_noise_multiplier=0.01, max_sample_rate=1.0)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        trainer = Trainer({plan.client_id: data}, ledger, lambda: policy, secret_noise, Path(folder), simulated=False)
        trainer.info(plan.client_id)
        local = InProcessTrainer(LocalTrainer(trainer, plan.client_id))
        reply = answer(message, TRAIN, lambda: local)
        ledger.close()
    return reply
