"""The thin Flower shell around a trainer: messages in, messages out, no algorithm, no data and no torch.

The same ClientApp serves simulation and boards; only where its trainer comes from differs. On a board it is a process
of its own behind the Unix socket that the node's config names: ``--node-config 'trainer-socket="/run/..."'``. Flower
starts this module anew for each message, so it must load fast and hold nothing: the bytes of plan, model and reply are
handed on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from fl_client.shell.protocol import SOCKET_KEY
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.shell.trainer_api import TrainerApi
from fl_core import wire
from fl_core.errors import ConfigError, PrivacyError, StonecropError, one_line
from fl_core.questions import QUESTIONS, Question

_CLIENT_APP_RAISED = 2
"""Flower's code for a ClientApp that raised."""
_MOST_DETAIL = 500
"""Characters of an error's text that travel in an error reply."""

TrainerOf = Callable[[Context], TrainerApi]


def make_client_app(trainer_of: TrainerOf) -> ClientApp:
    """A ClientApp that answers every question of the table with the trainer that the node's context leads to."""
    app = ClientApp()
    register = {"query": app.query, "train": app.train, "evaluate": app.evaluate}
    for question in QUESTIONS.values():
        category, _, action = question.message_type.partition(".")
        named = register[category](action) if action else register[category]()
        named(_handler(question, trainer_of))
    return app


def _handler(question: Question, trainer_of: TrainerOf) -> Callable[[Message, Context], Message]:
    return lambda message, context: answer(message, question, lambda: trainer_of(context))


def answer(message: Message, question: Question, trainer: Callable[[], TrainerApi]) -> Message:
    """The trainer's reply; a refusal where privacy forbids it; an error reply for another known error.

    The error reply leaves at once. What is no StonecropError is a defect, and Flower's to report.
    """
    try:
        reply = trainer().ask(question, wire.unpack_request(question, message.content))
        return Message(wire.pack_reply(question, reply), reply_to=message)
    except PrivacyError as error:
        return Message(wire.pack_refusal(str(error)), reply_to=message)
    except StonecropError as error:
        return error_reply(message, error)


def error_reply(message: Message, error: BaseException) -> Message:
    """The reply that says that a node's app raised."""
    text = one_line(f"{type(error).__name__}: {error}")[:_MOST_DETAIL]
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
