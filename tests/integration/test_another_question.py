"""One more question to a client is a row of the table and the function that answers it: nothing else is edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message

from fl_client.app import make_client_app
from fl_client.shell.socket_trainer import SocketTrainer
from fl_client.trainer.calls import Call
from fl_client.trainer.counters import Spending, TaskCounters
from fl_client.trainer.in_process import ANSWERS, LocalTrainer
from fl_client.trainer.service import Service, listen
from fl_client.trainer.task import Trainer
from fl_core import wire
from fl_core.questions import FIGURES, MODEL, PLAN, QUESTIONS, Question
from fl_core.records import encode_figures
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.nodes.mailbox import ask
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app

COUNT = Question("count", "query.count", (PLAN, MODEL), FIGURES, "open")
NODES = nodes_of(toy.data().clients)
App = Callable[[Message, Context], "Message | None"]


def count(trainer: Trainer, client_id: str, call: Call) -> bytes:
    """How many values of the model a client was sent, in the round of its plan."""
    task = call.task
    return encode_figures(
        {"client": client_id, "round": task.plan.round, "values": sum(t.size for t in task.model.values())}
    )


@pytest.fixture(autouse=True)
def another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUESTIONS, COUNT.name, COUNT)
    monkeypatch.setitem(ANSWERS, COUNT.name, count)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return build_trainer(toy.config(tmp_path), toy.data(), tmp_path)


@pytest.fixture
def behind_sockets(trainer: Trainer, tmp_path: Path) -> Iterator[App]:
    """The ClientApp of boards, each with its trainer behind a socket."""
    servers = []
    for name in NODES.values():
        service = Service(
            LocalTrainer(trainer, name), lambda: Spending(None, 0.0, 0.0, True), TaskCounters(tmp_path / f"{name}.json")
        )
        servers.append(listen(service, tmp_path / f"{name}.sock"))
    app = make_client_app(lambda context: SocketTrainer(tmp_path / f"{context.node_config['client-id']}.sock", 20))
    yield partial(run_app, app)
    for server in servers:
        server.stop(None).wait()


def check_answers(app: App, tmp_path: Path, trainer: Trainer) -> None:
    setup = Setup.of(toy.config(tmp_path), toy.data())
    model = setup.initial_state().model
    packed = wire.pack_tensors(model)
    contents = {node: wire.pack_task(plan_of(setup, trainer.info(name), 3, 2), packed) for node, name in NODES.items()}
    found = {}
    for reply in ask(FlowerExchange(InProcessGrid(NODES, app)), COUNT, contents, "count", 60.0):
        assert reply.content is not None, reply.failure
        found[NODES[reply.node_id]] = json.loads(wire.unpack_reply(COUNT, reply.content, NODES[reply.node_id]))
    assert found, "somebody answered"
    values = sum(tensor.size for tensor in model.values())
    assert found == {name: {"client": name, "round": 3, "values": values} for name in NODES.values()}


def test_a_question_that_is_added_to_the_table_is_answered_in_a_simulation(tmp_path, trainer):
    check_answers(partial(run_app, client_app(trainer)), tmp_path, trainer)


def test_a_question_that_is_added_to_the_table_is_answered_over_a_trainers_socket(tmp_path, trainer, behind_sockets):
    check_answers(behind_sockets, tmp_path, trainer)
