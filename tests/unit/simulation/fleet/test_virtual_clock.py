"""The virtual clock: what is due when, one task at a time on a client, and the same after a crash."""

from __future__ import annotations

import pytest
import toy

from fl_core.errors import ConfigError
from simulation.fleet.clock import VirtualClock, virtual_clock


def test_replies_are_due_after_their_clients_seconds_and_never_before():
    clock = VirtualClock(10.0, {"pi": 60.0})
    for name in ("pi", "jetson"):
        clock.start(name, "train", "1", name)
    assert clock.arrived(["pi", "jetson"]) == []
    clock.pause(0.0, 1000.0)
    assert (clock.now_s(), clock.arrived(["pi", "jetson"])) == (10.0, ["jetson"])
    clock.finish("jetson")
    clock.pause(0.0, 25.0)
    assert (clock.now_s(), clock.arrived(["pi"])) == (25.0, [])
    clock.pause(0.0, 1000.0)
    assert (clock.now_s(), clock.arrived(["pi"])) == (60.0, ["pi"])


def test_a_client_does_one_task_after_the_other_and_a_question_waits_for_it():
    clock = VirtualClock(10.0)
    for key, kind in (("a", "train"), ("b", "train"), ("c", "query")):
        clock.start(key, kind, key, "pi")
    seen = []
    for _ in range(2):
        clock.pause(0.0, 1000.0)
        seen.append((clock.now_s(), sorted(clock.arrived(["a", "b", "c"]))))
        for key in seen[-1][1]:
            clock.finish(key)
    assert seen == [(10.0, ["a"]), (20.0, ["b", "c"])]


def test_the_order_of_one_moment_favours_no_name():
    names = [f"client-{n}" for n in range(8)]
    firsts = set()
    for round in range(40):
        clock = VirtualClock()
        for name in names:
            clock.start(name, "train", str(round), name)
        firsts.add(clock.arrived(names)[0])
    assert len(firsts) > 4


def test_a_task_asked_again_after_a_crash_is_done_when_it_would_have_been():
    clock = VirtualClock(60.0)
    clock.start("first", "train", "1", "pi")
    clock.pause(0.0, 25.0)
    resumed = VirtualClock(60.0)
    resumed.restore(clock.save())
    with resumed.again(0.0):
        resumed.start("again", "train", "1", "pi")
    assert resumed.now_s() == 25.0
    resumed.pause(0.0, 1000.0)
    assert resumed.now_s() == 60.0


def test_a_clock_for_clients_that_there_are_not_is_refused(tmp_path):
    config = toy.config(tmp_path, simulation={"clients": {"client-1": 3.0, "client-9": 3.0}})
    with pytest.raises(ConfigError, match="client-9"):
        virtual_clock(config, toy.data().clients)
    with pytest.raises(ConfigError, match=r"simulation.clients.client-1: expected at least 0"):
        toy.config(tmp_path, simulation={"clients": {"client-1": -3.0}})
