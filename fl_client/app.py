"""The thin Flower shell around a trainer: messages in, messages out, no algorithm.

The same ClientApp serves simulation and boards; only where its trainer comes from differs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fl_client.trainer import Task, Trainer
from fl_core import __version__, wire
from fl_core.assemble import federation_of
from fl_core.config import load_config
from fl_core.errors import DataError, PrivacyError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import SecretNoise

TrainerOf = Callable[[Context], "tuple[Trainer, str]"]


def make_client_app(trainer_of: TrainerOf) -> ClientApp:
    """A ClientApp whose trainer and client_id come from the context of the node."""
    app = ClientApp()

    def task_of(message: Message) -> Task:
        plan = wire.unpack_plan(message.content, __version__)
        return Task(plan, wire.unpack_tensors(message.content, "server"))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        trainer, client_id = trainer_of(context)
        return Message(wire.pack_info(trainer.info(client_id)), reply_to=message)

    @app.query("ranges")
    def ranges(message: Message, context: Context) -> Message:
        trainer, _ = trainer_of(context)
        return answer(message, lambda: wire.pack_update(trainer.measure_ranges(task_of(message))))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        trainer, _ = trainer_of(context)
        return answer(message, lambda: wire.pack_update(trained(trainer, task_of(message))))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        trainer, _ = trainer_of(context)
        return answer(message, lambda: wire.pack_figures(trainer.evaluate(task_of(message))))

    return app


def answer(message: Message, work: Callable[[], RecordDict]) -> Message:
    """The reply with what ``work`` gives, or with the refusal where privacy forbids it; other errors are Flower's."""
    try:
        return Message(work(), reply_to=message)
    except PrivacyError as error:
        return Message(wire.pack_refusal(str(error)), reply_to=message)


def trained(trainer: Trainer, task: Task) -> bytes:
    """The encoded update of one task, or its error raised."""
    (result,) = trainer.train_many([task])
    if result.encoded is None:
        raise result.error or RuntimeError("a task gave neither update nor error")
    return result.encoded


@lru_cache(maxsize=1)
def open_trainer(home: str, client_id: str, config_path: str, overrides: str) -> Trainer:
    """The trainer of a board: its own data, the policy and the ledger in ``home``, and secret noise.

    Raises:
        PolicyError: ``home`` holds no readable ``policy.json``: a board without limits of its own trains nothing.
        DataError: the config's data has no client of that name.
    """
    folder = Path(home)
    policy = DevicePolicy.load(folder / "policy.json")
    everyone = federation_of(load_config(config_path, shlex.split(overrides))).clients
    if client_id not in everyone:
        raise DataError(f"client {client_id}: expected one of {', '.join(sorted(everyone))}")
    ledger = Ledger(folder / "ledger.sqlite")
    own = {client_id: everyone[client_id]}
    return Trainer(own, ledger, policy, lambda plan: SecretNoise(), folder / "artifacts", simulated=False)


def trainer_on_board(context: Context) -> tuple[Trainer, str]:
    """The trainer that the node's config names: ``client-id`` and ``home``; the run's config says what is learned."""
    client_id = str(context.node_config["client-id"])
    run = context.run_config
    overrides = str(run.get("overrides", ""))
    return open_trainer(str(context.node_config["home"]), client_id, str(run["config"]), overrides), client_id


app = make_client_app(trainer_on_board)
