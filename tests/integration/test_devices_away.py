"""Devices that lose their connection within a round: those that a quorum needs are waited for, and others are not."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import toy
from flwr.app import Error, Message

from fl_core.runlog import RunLog, read_events
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.plan.setup import Setup
from fl_server.rounds.loop import run_rounds
from simulation.engines.clients import build_trainer, client_app
from simulation.engines.in_process import InProcessGrid, nodes_of, run_app

NODE_UNAVAILABLE = 5
DEADLINE_S = 5.0


class AwayGrid:
    """A SuperLink some of whose nodes lose their connection once, when they have the task of the first round.

    Args:
        gone: how many of its nodes.
        looks: after so many looks who is there they are back.
    """

    def __init__(self, nodes: InProcessGrid, gone: int, looks: int) -> None:
        self._nodes = nodes
        self._gone = set(sorted(nodes.get_node_ids())[:gone])
        self._away: set[int] = set()
        self._looks = looks
        self._errors: list[Message] = []
        self.trains: list[str] = []

    def get_node_ids(self) -> list[int]:
        if self._away:
            self._looks -= 1
            if not self._looks:
                self._away.clear()
        return [node for node in self._nodes.get_node_ids() if node not in self._away]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        keys = list(self._nodes.push_messages(messages))
        for message in messages:
            node = message.metadata.dst_node_id
            if message.metadata.message_type == "train":
                self.trains.append(str(message.content["plan"]["json"]))
                if node in self._gone:
                    self._gone.remove(node)
                    self._away.add(node)
                    self._errors.append(Message(Error(NODE_UNAVAILABLE, "no heartbeat"), reply_to=message))
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        errors, self._errors = self._errors, []
        failed = {error.metadata.reply_to_message_id for error in errors}
        return errors + list(self._nodes.pull_messages([key for key in message_ids if key not in failed]))


def rounds_with(tmp_path: Path, gone: int, looks: int, quorum: float) -> tuple[AwayGrid, list[dict[str, object]]]:
    config = toy.config(
        tmp_path, run={"rounds": 2}, round={"quorum": quorum, "deadline_s": DEADLINE_S}, export={"formats": []}
    )
    app = client_app(build_trainer(config, toy.data(), tmp_path))
    grid = AwayGrid(InProcessGrid(nodes_of(toy.data().clients), partial(run_app, app)), gone, looks)
    with closing(RunLog(tmp_path, config.run.name)) as log:
        run_rounds(FlowerExchange(grid), Setup.of(config, toy.data()), tmp_path, log)  # type: ignore[arg-type]
    return grid, [dict(event) for event in read_events(tmp_path)]


def ended(events: list[dict[str, object]]) -> list[object]:
    return [event["accepted"] for event in events if event["kind"] == "round_finished"]


def test_a_quorum_waits_for_those_that_come_back_and_asks_them_for_the_same_tasks(tmp_path: Path) -> None:
    grid, events = rounds_with(tmp_path, gone=3, looks=2, quorum=0.75)
    assert ended(events) == [4, 4]
    assert not [event for event in events if event["kind"] == "client_failed"]
    assert len(grid.trains) == 4 + 3 + 4
    assert len(set(grid.trains)) == 8


def test_nobody_is_waited_for_where_there_are_enough(tmp_path: Path) -> None:
    _, events = rounds_with(tmp_path, gone=1, looks=10**6, quorum=0.75)
    assert ended(events) == [3, 3]
    reasons = [event["reason"] for event in events if event["kind"] == "client_failed"]
    assert reasons == ["error 5: no heartbeat"]


def test_those_that_do_not_come_back_are_waited_for_until_the_deadline_alone(tmp_path: Path) -> None:
    _, events = rounds_with(tmp_path, gone=2, looks=10**6, quorum=0.75)
    first = next(event for event in events if event["kind"] == "round_finished")
    assert first["accepted"] == 2
    assert DEADLINE_S <= float(str(first["seconds"])) < 3 * DEADLINE_S
    assert len([event for event in events if event["kind"] == "client_failed"]) == 2
