"""Run folders with made-up figures of any shape, written through RunLog as a real run writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_core.runlog import RunLog

UNIT = "a window of 2 s of wrist movement"


def evaluation(accuracy: float, int8: float | None, groups: dict[str, float] | None = None) -> dict[str, Any]:
    """An evaluation record on 200 examples."""
    return {
        "examples": 200,
        "accuracy_float": accuracy,
        "accuracy_fake_quant": accuracy - 0.002,
        "accuracy_int8": int8,
        "groups": groups or {},
    }


def accuracy_after(number: int, private: bool = True) -> float:
    """A learning curve, a little lower under DP."""
    return (0.88 if private else 0.95) - 0.7 / (1 + number)


@dataclass(frozen=True)
class Shape:
    """What a made-up run looks like."""

    name: str = "demo"
    clients: int = 3
    rounds: int = 4
    private: bool = True
    test_set: bool = True
    finished: bool = True
    mishaps: bool = False
    first_client: str = "person 1"
    published_later: bool = False
    """Whether artefacts are published while the next round is under way, and told by ``round_published``."""
    proven: bool = True
    """Whether artefacts were run where they were made; else their device alone can, and nothing is known of them."""

    @property
    def names(self) -> list[str]:
        """The client_ids."""
        return [self.first_client, *(f"person {number}" for number in range(2, self.clients + 1))]


def write_run(folder: Path, **shape: Any) -> Path:
    """Write events.jsonl of a run with these fields of ``Shape`` and give its folder."""
    run = Shape(**shape)
    log = RunLog(folder, run.name)
    log.append("run_started", 0, clients=run.names, rounds=run.rounds, strategy="fedavg", seed=1, weight_bits=8,
               ranges="fixed", client_bits={}, findings=[],
               model="imu_bank" if run.private else "imu_cnn",
               privacy=_privacy(run.names) if run.private else None,
               data={"name": "smartwatch", "unit": UNIT, "not_hidden": "that a person took part", "labels": ["a", "b"],
                     "groups": ["person 9"] if run.test_set else [], "metric": "accuracy"},
               initial=evaluation(0.14, None) if run.test_set else None)  # fmt: skip
    for number in range(1, run.rounds + 1):
        _train(log, number, run)
        if run.published_later:
            _finish(log, number, run, int8=False)
            if number > 1:
                _publish_later(log, number - 1, run)
        else:
            _publish(log, number, run)
            _finish(log, number, run, int8=True)
    if run.published_later and run.rounds:
        _publish_later(log, run.rounds, run)
    if run.finished:
        log.append("run_finished", run.rounds, rounds_done=run.rounds, seconds=2.5 * run.rounds)
    log.close()
    (folder / "config.yaml").write_text(f"run:\n  name: {run.name}\n", encoding="utf-8")
    return folder


def fleet_log(folder: Path) -> RunLog:
    """The log of a deployed run of the clients a and b that has begun."""
    log = RunLog(folder, "fleet")
    log.append(
        "run_started", 0, clients=["a", "b"], rounds=5, strategy="fedavg", model="m", seed=1, privacy=None, data={},
        initial=None, weight_bits=8, ranges="fixed", client_bits={}, findings=[],
    )  # fmt: skip
    return log


def round_of(log: RunLog, number: int, epsilon: float | None) -> None:
    """A whole round of such a run, in which b is rejected."""
    log.append("round_started", number, cohort=["a", "b"])
    log.append("client_finished", number, client_id="a", uplink_bytes=100, local_steps=1, epsilon=epsilon)
    log.append("client_rejected", number, client_id="b", reason="not finite")
    log.append(
        "round_finished", number, accepted=1, rejected=1, uplink_bytes=100, downlink_bytes=200, seconds=2.5,
        epsilon_max=epsilon, evaluation={"accuracy_int8": 0.5},
    )  # fmt: skip


def _privacy(names: list[str]) -> dict[str, Any]:
    return {
        "unit": "example", "unit_text": UNIT, "not_hidden": "that a person took part, or a whole recording",
        "epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "accountant": "rdp", "simulated": True,
        "noise_multiplier": {name: 1.1 + 0.05 * (row % 3) for row, name in enumerate(names)},
        "sample_rate": dict.fromkeys(names, 0.25), "steps": dict.fromkeys(names, 8),
    }  # fmt: skip


def _train(log: RunLog, number: int, run: Shape) -> None:
    log.append("round_started", number, cohort=run.names)
    for row, client in enumerate(run.names):
        if client in _left_out(number, run):
            reason = f"update from {client}: expected finite values, got NaN"
            log.append("client_rejected", number, client_id=client, reason=reason)
            continue
        epsilon = (0.5 + 0.1 * (row % 5)) * number**0.5 if run.private else None
        log.append("client_finished", number, client_id=client, uplink_bytes=40_000, local_steps=8, epsilon=epsilon)
        if not run.published_later:
            _evaluate_client(log, number, run, row)


def _publish(log: RunLog, number: int, run: Shape) -> None:
    if run.mishaps and number == 3:
        log.append("artifact_vetoed", number, format="onnx", weight_bits=8,
                   reason="top-1 agreement: expected at least 0.99, got 0.42")  # fmt: skip
    else:
        parity = {"examples": 200, "top1_agreement": 1.0, "max_lsb": 1, "exact_fraction": 0.998}
        log.append("artifact_published", number, format="onnx", weight_bits=8,
                   path=f"rounds/{number:04d}/onnx", bytes=14_100, bytes_float=46_200,
                   parity=parity if run.proven else None)  # fmt: skip


def _publish_later(log: RunLog, number: int, run: Shape) -> None:
    _publish(log, number, run)
    for row, client in enumerate(run.names):
        if client not in _left_out(number, run):
            _evaluate_client(log, number, run, row)
    log.append("round_published", number, evaluation=_evaluation(number, run, int8=True), seconds=0.5)


def _finish(log: RunLog, number: int, run: Shape, int8: bool) -> None:
    left_out = _left_out(number, run)
    accepted = [client for client in run.names if client not in left_out]
    log.append("round_finished", number, accepted=accepted, rejected=sorted(left_out),
               uplink_bytes=40_000 * len(accepted), downlink_bytes=41_000 * run.clients, seconds=2.5,
               epsilon_max=0.9 * number**0.5 if run.private else None,
               evaluation=_evaluation(number, run, int8))  # fmt: skip


def _left_out(number: int, run: Shape) -> set[str]:
    return set(run.names[1:2]) if run.mishaps and number == 2 else set()


def _evaluate_client(log: RunLog, number: int, run: Shape, row: int) -> None:
    accuracy = accuracy_after(number, run.private) - 0.03 * (row % 7)
    log.append("client_evaluated", number, visibility="simulation", client_id=run.names[row], examples=30 + row,
               accuracy_float=accuracy, accuracy_int8=accuracy - 0.01)  # fmt: skip


def _evaluation(number: int, run: Shape, int8: bool) -> dict[str, Any] | None:
    if not run.test_set:
        return None
    accuracy = accuracy_after(number, run.private)
    vetoed = run.mishaps and number == 3
    return evaluation(accuracy, accuracy - 0.001 if int8 and not vetoed else None, {"person 9": accuracy - 0.1})
