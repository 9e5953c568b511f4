"""A message that is lost on its way is sent again in time, and nobody who is still at work is asked twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fl_core.flower_private import identify_process, set_message_id
from fl_core.questions import TRAIN
from fl_server.nodes import mailbox
from fl_server.nodes.flower_exchange import FlowerExchange
from fl_server.nodes.liveness import LONGER, SLOWER
from fl_server.nodes.mailbox import Mailbox, Reply, ask
from simulation.engines.in_process import InProcessGrid

DEADLINE_S = 2.0


class LossyGrid:
    """A SuperLink that hands every message out once, to nodes that do one thing after another.

    Args:
        tasks_lost: how many messages to each node get lost.
        replies_lost: how many replies of each node get lost.
        works: how many looks of the server each node's training takes.
    """

    def __init__(
        self,
        tasks_lost: dict[int, int] | None = None,
        replies_lost: dict[int, int] | None = None,
        works: dict[int, int] | None = None,
    ) -> None:
        identify_process(1)
        self.tasks_lost, self.replies_lost = Counter(tasks_lost), Counter(replies_lost)
        self.works = works or {}
        self.trained = Counter[int]()
        self.pushed: list[Message] = []
        self.left = set[str]()
        self._queues: dict[int, list[Message]] = {}
        self._busy = Counter[int]()
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = []
        for message in messages:
            keys.append(f"message-{next(self._numbers)}")
            set_message_id(message, keys[-1])
            self.pushed.append(message)
            self._queues.setdefault(message.metadata.dst_node_id, []).append(message)
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        for node_id, queue in self._queues.items():
            if self._busy[node_id]:
                self._busy[node_id] -= 1
            elif queue:
                self._take(node_id, queue)
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def leave(self, message_ids: Iterable[str]) -> None:
        self.left.update(message_ids)

    def _take(self, node_id: int, queue: list[Message]) -> None:
        message = queue[0]
        trains = message.metadata.message_type == "train"
        if trains and self.tasks_lost[node_id]:
            self.tasks_lost[node_id] -= 1
            del queue[0]
        elif trains and self.works.get(node_id):
            self._busy[node_id] = self.works.pop(node_id)
        else:
            del queue[0]
            self.trained[node_id] += trains
            if trains and self.replies_lost[node_id]:
                self.replies_lost[node_id] -= 1
            else:
                self._replies[message.metadata.message_id] = Message(message.content, reply_to=message)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(mailbox, "SILENT_S", 0.1)


def asked(grid: LossyGrid, *nodes: int) -> dict[int, Reply]:
    contents = {node: RecordDict({"task": ConfigRecord({"of": node})}) for node in nodes}
    replies = list(ask(FlowerExchange(grid), TRAIN, contents, "1", DEADLINE_S))
    assert Counter(reply.node_id for reply in replies) == Counter(nodes), "one reply a node"
    return {reply.node_id: reply for reply in replies}


@pytest.mark.parametrize("lost", ["tasks_lost", "replies_lost"])
@pytest.mark.parametrize("times", [1, 2])
def test_what_is_lost_is_sent_again_before_the_deadline_and_answered_once(lost, times):
    replies = asked(LossyGrid(**{lost: {7: times}}), 7, 8)
    for node, reply in replies.items():
        assert reply.content == RecordDict({"task": ConfigRecord({"of": node})})
        assert reply.seconds < DEADLINE_S


def test_who_is_at_work_for_long_is_not_sent_its_task_again():
    grid = LossyGrid(works={7: 9})
    replies = asked(grid, 7, 8)
    assert replies[7].content is not None
    assert replies[7].seconds > 0.1 * LONGER
    assert grid.trained == {7: 1, 8: 1}
    questions = [message for message in grid.pushed if message.metadata.message_type == "query"]
    assert {message.metadata.dst_node_id for message in questions} == {7}
    assert len(questions) in (2, 3), "each after a longer silence than the one before"


def test_who_is_not_much_slower_than_others_were_is_not_disturbed():
    grid = LossyGrid(works={7: 8, 8: 7})
    mail = Mailbox(FlowerExchange(grid))
    took: list[float] = []
    for node in (7, 8):
        grid.pushed.clear()
        mail.send(TRAIN, {node: RecordDict()}, "1", DEADLINE_S)
        while not (replies := mail.collect()):
            mail.wait(float("inf"))
        took += [reply.seconds for reply in replies]
    assert 0.1 < took[1] < SLOWER * took[0]
    assert len(grid.pushed) == 1, "the task, and no question"


class Unavailable(LossyGrid):
    """A grid whose node 8 gives errors in the place of answers."""

    def _take(self, node_id: int, queue: list[Message]) -> None:
        message = queue[0]
        super()._take(node_id, queue)
        if node_id == 8 and message.metadata.message_id in self._replies:
            self._replies[message.metadata.message_id] = Message(Error(5, "its heartbeat ran out"), reply_to=message)


def test_how_long_an_error_took_says_nothing_of_how_long_an_answer_takes():
    grid = Unavailable(tasks_lost={7: 1}, works={8: 7})
    mail = Mailbox(FlowerExchange(grid))
    took: list[float] = []
    for node in (8, 7):
        mail.send(TRAIN, {node: RecordDict()}, "1", DEADLINE_S)
        while not (replies := mail.collect()):
            mail.wait(float("inf"))
        took += [reply.seconds for reply in replies]
    assert took[1] < SLOWER * took[0]


def test_a_node_that_is_gone_is_missing_once_at_its_deadline():
    grid = LossyGrid(works={7: 10**6})
    reply = asked(grid, 7)[7]
    assert reply.missing
    assert reply.seconds == DEADLINE_S


def test_a_deadline_is_no_later_for_a_task_that_is_sent_again():
    grid = LossyGrid(tasks_lost={7: 10**6})
    assert asked(grid, 7)[7].missing
    trains = [message.metadata for message in grid.pushed if message.metadata.message_type == "train"]
    assert len(trains) > 2
    assert max(each.ttl for each in trains) == trains[0].ttl
    ends = [each.created_at + each.ttl for each in trains]
    assert ends == pytest.approx([ends[0]] * len(ends), rel=0, abs=0.2)


def test_in_the_end_nobody_waits_for_any_message():
    grid = LossyGrid(tasks_lost={7: 1}, replies_lost={8: 1}, works={9: 10})
    mail = Mailbox(FlowerExchange(grid))
    mail.send(TRAIN, dict.fromkeys((7, 8, 9), RecordDict()), "1", DEADLINE_S)
    answered: set[int] = set()
    while len(answered) < 2:
        answered |= {reply.node_id for reply in mail.collect()}
        mail.wait(float("inf"))
    mail.close()
    taken = {message.metadata.message_id for message in grid.pushed} - grid.left
    assert list(grid.pull_messages(taken)) == []
    assert mail.open_nodes == set()


def test_a_task_is_sent_again_as_it_was_though_its_sender_keeps_it_no_more():
    grid = LossyGrid(tasks_lost={7: 1})
    mail = Mailbox(FlowerExchange(grid))
    first = RecordDict({"task": ConfigRecord({"from": "memory"})})
    mail.send(TRAIN, {7: first}, "1", DEADLINE_S, lambda node: RecordDict({"task": ConfigRecord({"from": "disk"})}))
    while not (replies := mail.collect()):
        mail.wait(float("inf"))
    assert replies[0].content == RecordDict({"task": ConfigRecord({"from": "disk"})})


def test_a_simulator_loses_nothing_and_its_nodes_are_asked_nothing_more(monkeypatch):
    monkeypatch.setattr(mailbox, "SILENT_S", 0.0)
    seen: list[str] = []

    def answer(message, context):
        seen.append(message.metadata.message_type)
        return None if context.node_id == 8 else Message(RecordDict(), reply_to=message)

    exchange = FlowerExchange(InProcessGrid({7: "a", 8: "b"}, answer))
    list(ask(exchange, TRAIN, {7: RecordDict(), 8: RecordDict()}, "1", 0.3))
    assert set(seen) == {"train"}
