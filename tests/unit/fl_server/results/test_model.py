"""A model is a value: what is computed with it depends on no model that was looked at before."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import toy

from fl_core.models.weights import load_tensors
from fl_core.quant.forward import outputs
from fl_core.runlog import EventBatch, RunLog, read_events
from fl_core.types import FloatArray
from fl_server.plan.setup import Setup
from fl_server.results.model import Model, Moving, Nets

WIDE = Moving({"0": (0.0, 3.0)})


@pytest.fixture
def setup(tmp_path) -> Setup:
    return Setup.of(toy.config(tmp_path, quant={"ranges": "public", "client_bits": {"client-1": 4}}), toy.data())


def from_scratch(setup: Setup, model: Model, bits: int, x: FloatArray) -> FloatArray:
    net = replace(setup.spec.at_width(bits), ranges=model.moving.ranges).build_model(setup.config.run.seed)
    load_tensors(net, model.tensors)
    return outputs(net, x, fake_quant=True)


def test_models_that_take_turns_in_one_net_give_what_each_gives_alone(setup):
    first = Model(setup.spec, setup.initial_state().model)
    second = Model(setup.spec, {name: 2 * tensor for name, tensor in first.tensors.items()}, WIDE)
    third = replace(second, moving=Moving())
    nets, x = Nets(setup.spec, setup.config.run.seed), setup.data.public.x
    for model in (first, second, third, first, second):
        for bits in (8, 4):
            got = nets.outputs(model, "public", x, fake_quant=True, bits=bits)
            assert got.tobytes() == from_scratch(setup, model, bits, x).tobytes()
    assert nets.lowered(second, 8).tensors != nets.lowered(third, 8).tensors
    assert nets.calibrated(first, x) == nets.calibrated(replace(first, moving=WIDE), x)


def test_another_model_has_none_of_the_outputs_that_were_kept(setup):
    model = Model(setup.spec, setup.initial_state().model)
    Nets(setup.spec, 7).outputs(model, "public", setup.data.public.x, fake_quant=False)
    assert model.outputs
    assert not replace(model, moving=WIDE).outputs


def test_a_net_that_is_run_while_another_is_traced_gives_the_same(setup):
    model, x = Model(setup.spec, setup.initial_state().model), setup.data.public.x
    nets = Nets(setup.spec, setup.config.run.seed)
    expected, done, got = from_scratch(setup, model, 8, x), threading.Event(), []

    def run() -> None:
        while not done.is_set():
            got.append(nets.outputs(replace(model), "public", x, fake_quant=True))

    worker = threading.Thread(target=run)
    worker.start()
    for _ in range(20):
        setup.spec.trace_model(1)
    done.set()
    worker.join()
    assert got
    assert {each.tobytes() for each in got} == {np.ascontiguousarray(expected).tobytes()}


def test_events_of_a_batch_stand_together_whoever_else_writes(tmp_path):
    log = RunLog(tmp_path, "toy")

    def say(number: int) -> None:
        batch = EventBatch()
        for part in range(20):
            batch.append("client_failed", number, client_id=str(part), reason="")
        log.append_all(batch)

    threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    events = list(read_events(tmp_path))
    assert [event["seq"] for event in events] == list(range(1, 161))
    assert all(len({event["round"] for event in events[at : at + 20]}) == 1 for at in range(0, 160, 20))
