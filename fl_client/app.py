"""The thin Flower shell around a trainer: messages in, messages out, no algorithm, no data and no torch.

The same ClientApp serves simulation and boards; only where its trainer comes from differs. On a board it is a process
of its own behind the Unix socket that the node's config names: ``--node-config 'trainer-socket="/run/..."'``. Flower
starts this module anew for each message, so it must load fast and hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fl_client.shell.protocol import SOCKET_KEY
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.shell.trainer_api import TrainerApi
from fl_core import __version__, wire
from fl_core.errors import ConfigError, PrivacyError, StonecropError
from fl_core.types import RoundPlan, Tensors

_CLIENT_APP_RAISED = 2
"""Flower's code for a ClientApp that raised."""
_MOST_DETAIL = 500
"""Characters of an error's text that travel in an error reply."""

AnswersOf = Callable[[Context], TrainerApi]


def make_client_app(answers_of: AnswersOf) -> ClientApp:
    """A ClientApp whose trainer comes from the context of the node."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return answer(message, lambda: wire.pack_info(answers_of(context).info()))

    @app.query("ranges")
    def ranges(message: Message, context: Context) -> Message:
        return answer(message, lambda: wire.pack_update(answers_of(context).ranges(*task_of(message))))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, lambda: wire.pack_update(answers_of(context).train(*task_of(message))))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answer(message, lambda: wire.pack_figures(answers_of(context).evaluate(*task_of(message))))

    return app


def task_of(message: Message) -> tuple[RoundPlan, Tensors]:
    """The plan of a message and the global model that it starts from.

    Raises:
        WireError: either cannot be read, or the plan was made by code of another version.
    """
    return wire.unpack_plan(message.content, __version__), wire.unpack_tensors(message.content, "server")


def answer(message: Message, work: Callable[[], RecordDict]) -> Message:
    """The reply with what ``work`` gives; a refusal where privacy forbids it; an error reply for another known error.

    The error reply leaves at once. What is no StonecropError is a defect, and Flower's to report.
    """
    try:
        return Message(work(), reply_to=message)
    except PrivacyError as error:
        return Message(wire.pack_refusal(str(error)), reply_to=message)
    except StonecropError as error:
        text = f"{type(error).__name__}: {error}"[:_MOST_DETAIL]
        return Message(Error(_CLIENT_APP_RAISED, text), reply_to=message)


def trainer_on_board(context: Context) -> TrainerApi:
    """The trainer behind the socket that the node's own config names; no run-config of a server can name another.

    Raises:
        ConfigError: the node's config names none.
    """
    path = context.node_config.get(SOCKET_KEY)
    if not isinstance(path, str) or not path:
        raise ConfigError(f"node config: expected {SOCKET_KEY} with the path of the trainer's socket, got {path!r}")
    return SocketTrainer(Path(path))


app = make_client_app(trainer_on_board)
