"""Plans, infos and figures come out of their bytes as they went in, or are refused with the name of who sent them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors.numpy import save

from fl_core import wire
from fl_core.errors import WireError
from fl_core.records import decode_figures, decode_info, decode_plan, encode_figures, encode_info, encode_plan
from fl_core.types import SCHEMA_VERSION, ClientInfo, DpTerms, RoundPlan

CODE = "1.2.3"
TERMS = DpTerms(8.0, 1e-5, 1.0, 1.1, 0.1, 10, 16.0)
PLAN = RoundPlan(
    "t1", "run", 2, "c1", 1, 7, 3, {"model": {"name": "imu_cnn", "args": {}}}, TERMS, "t0", code_version=CODE
)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, dp=None, accepted=None)])
def test_a_plan_comes_out_as_it_went_in(plan):
    assert decode_plan(encode_plan(plan), CODE) == plan


def test_a_plan_of_another_version_is_refused_by_name_before_it_is_read():
    unknown = json.dumps({"schema_version": 9, "code_version": "2.0.0", "field of tomorrow": 1}).encode()
    with pytest.raises(WireError, match=rf"schema {SCHEMA_VERSION} and code 1\.2\.3, got schema 9 and code 2\.0\.0"):
        decode_plan(unknown, CODE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"round": "second"}, "plan from server: round: .*, got 'second'"),
        ({"dp": {"epsilon": 1.0}}, "plan from server: dp.delta: Field required"),
        ({"extra": 1}, "plan from server: there is no such field: extra"),
        ({"dp": {**asdict(TERMS), "sigma": 1.0}}, "plan from server: there is no such field: sigma"),
    ],
)
def test_a_field_of_a_plan_that_is_wrong_is_named(change, words):
    with pytest.raises(WireError, match=words):
        decode_plan(json.dumps(asdict(PLAN) | change).encode(), CODE)


def test_what_a_client_says_of_itself_comes_out_as_it_went_in():
    info = ClientInfo("c1", 16, CODE, simulated=True, device={"battery_share": 0.5})
    assert decode_info(encode_info(info), "node 7") == info
    assert decode_figures(encode_figures({"examples": 3}), "c1") == {"examples": 3}


@pytest.mark.parametrize("data", [b"\xff", b"[]", b"{}", b'{"client_id": 1, "size_class": 0}'])
def test_who_says_nothing_that_can_be_read_is_named(data):
    with pytest.raises(WireError, match="node 7"):
        decode_info(data, "node 7")


def test_a_task_is_no_longer_on_the_wire_than_its_plan_and_its_tensors():
    model = {f"layer{n}.weight": np.full((3, 5), n, np.float32) for n in range(20)}
    content = wire.pack_task(PLAN, wire.pack_tensors(model))
    sizes = {name: len(record.get("bytes") or record["json"]) for name, record in content.items()}
    assert sizes == {"plan": len(json.dumps(asdict(PLAN))), "model.0": len(save(model))}


@pytest.mark.parametrize(
    "decode",
    [
        lambda data: decode_plan(data, CODE),
        lambda data: decode_info(data, "c1"),
        lambda data: decode_figures(data, "c1"),
    ],
)
def test_json_that_is_nested_too_deeply_is_refused(decode):
    with pytest.raises(WireError, match="nested too deeply"):
        decode(b"[" * 200_000)
