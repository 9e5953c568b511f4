"""The thin Flower shell around a trainer: messages in, messages out, no algorithm.

The same ClientApp serves simulation and boards; only where its trainer comes from differs.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_client.trainer import Task, Trainer
from fl_core import __version__, wire
from fl_core.errors import PrivacyError

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
        try:
            encoded = trainer.measure_ranges(task_of(message))
        except PrivacyError as error:
            return Message(wire.pack_refusal(str(error)), reply_to=message)
        return Message(wire.pack_update(encoded), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        trainer, _ = trainer_of(context)
        (result,) = trainer.train_many([task_of(message)])
        if isinstance(result.error, PrivacyError):
            return Message(wire.pack_refusal(str(result.error)), reply_to=message)
        if result.encoded is None:
            raise result.error or RuntimeError("a task gave neither update nor error")
        return Message(wire.pack_update(result.encoded), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        trainer, _ = trainer_of(context)
        try:
            figures = trainer.evaluate(task_of(message))
        except PrivacyError as error:
            return Message(wire.pack_refusal(str(error)), reply_to=message)
        return Message(wire.pack_figures(figures), reply_to=message)

    return app
