"""Artefacts follow their round: they hold no other one up, and none is lost when a run dies before it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import toy

from fl_core.export import registry
from fl_core.export.onnx.exporter import OnnxExporter
from fl_core.quant.lowered import Lowered
from fl_core.runlog import Event, read_events
from simulation.run import resume, run

Exports = Callable[[int], None]


class HeldExporter(OnnxExporter):
    """ONNX, once a function of the round has let it."""

    before: Exports = staticmethod(lambda round: None)

    def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> Path:
        """See ``Exporter``."""
        type(self).before(int(metadata["round"]))
        return super().export(lowered, out, metadata)


@pytest.fixture
def held(monkeypatch) -> Callable[[Exports], None]:
    """Puts a function before every export."""
    monkeypatch.setitem(registry.EXPORTERS, "onnx", HeldExporter)
    return lambda before: monkeypatch.setattr(HeldExporter, "before", staticmethod(before))


def config(out: Path, **sections: object):
    return toy.config(out, **{"run": {"rounds": 5}, "quant": {"ranges": "public"}, **sections})


def published(run_dir: Path) -> list[tuple]:
    """What was published, round by round, without the time that it took."""
    left_out = {"seq", "time", "seconds"}
    kinds = ("artifact_published", "artifact_vetoed", "client_evaluated", "round_published")
    return [
        tuple((key, str(value)) for key, value in event.items() if key not in left_out)
        for event in read_events(run_dir)
        if event["kind"] in kinds
    ]


def artefacts(run_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in sorted(run_dir.glob("rounds/*/*/*"))}


def test_a_round_does_not_wait_for_the_artefacts_of_the_one_before(tmp_path, held):
    started = threading.Event()

    def listen(event: Event) -> None:
        if event["kind"] == "round_started" and event["round"] == 2:
            started.set()

    held(lambda round: None if started.wait(60) else pytest.fail("round 2 waits for the artefacts of round 1"))
    events = [(event["kind"], event["round"]) for event in read_events(run(config(tmp_path), listeners=[listen]))]
    assert events.index(("round_started", 2)) < events.index(("round_published", 1))
    assert [round for kind, round in events if kind == "round_published"] == [1, 2, 3, 4, 5]
    assert events[-1][0] == "run_finished"


class PowerCutError(Exception):
    """The end of a process."""


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_resumed_run_makes_up_for_the_artefacts_that_a_kill_cost(tmp_path, held, at):
    straight = run(config(tmp_path / "straight"))
    last = threading.Event()

    def listen(event: Event) -> None:
        if event["kind"] == "round_finished" and event["round"] == 5:
            last.set()

    def cut(round: int) -> None:
        if round == at:
            last.wait(60)
            raise PowerCutError

    held(cut)
    with pytest.raises(PowerCutError):
        run(config(tmp_path / "cut"), listeners=[listen])
    cut_short = tmp_path / "cut" / "toy"
    assert f"'round', '{at}'" not in str([e for e in published(cut_short) if ("kind", "round_published") in e])
    held(lambda round: None)
    resume(cut_short)
    assert published(cut_short) == published(straight)
    assert artefacts(cut_short) == artefacts(straight)
    assert not list((cut_short / "checkpoint" / "unpublished").glob("*"))


def test_a_round_that_makes_no_artefact_publishes_nothing(tmp_path):
    run_dir = run(config(tmp_path, export={"every": 2}))
    events = [(event["kind"], event["round"]) for event in read_events(run_dir)]
    assert [round for kind, round in events if kind == "round_published"] == [2, 4, 5]
    evaluated = [event for event in read_events(run_dir) if event["kind"] == "client_evaluated"]
    assert {event["round"] for event in evaluated if event["accuracy_int8"] is not None} == {2, 4, 5}
    assert {event["round"] for event in evaluated} == {1, 2, 3, 4, 5}


def test_the_record_of_a_published_round_is_that_of_its_round_with_the_artefact(tmp_path):
    records = {"round_finished": {}, "round_published": {}}
    for event in read_events(run(config(tmp_path))):
        if event["kind"] in records:
            records[event["kind"]][event["round"]] = event["evaluation"]
    for round, before in records["round_finished"].items():
        after = records["round_published"][round]
        assert before["accuracy_int8"] is None
        assert after["accuracy_int8"] is not None
        same = ("examples", "accuracy_float", "accuracy_fake_quant")
        assert [before[name] for name in same] == [after[name] for name in same]
