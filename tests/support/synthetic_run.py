"""Run folders with made-up figures of any shape, written through RunLog as a real run writes them."""

from __future__ import annotations

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


def write_run(
    folder: Path,
    *,
    name: str = "demo",
    clients: int = 3,
    rounds: int = 4,
    private: bool = True,
    test_set: bool = True,
    finished: bool = True,
    mishaps: bool = False,
    first_client: str = "person 1",
) -> Path:
    """Write events.jsonl of a run with these properties and give its folder."""
    names = [first_client, *(f"person {number}" for number in range(2, clients + 1))]
    log = RunLog(folder, name)
    log.append("run_started", 0, clients=names, rounds=rounds, strategy="fedavg", seed=1, weight_bits=8, client_bits={},
               model="imu_bank" if private else "imu_cnn",
               privacy=_privacy(names) if private else None,
               data={"name": "smartwatch", "unit": UNIT, "not_hidden": "that a person took part", "labels": ["a", "b"],
                     "groups": ["person 9"] if test_set else [], "metric": "accuracy"},
               initial=evaluation(0.14, None) if test_set else None)  # fmt: skip
    for number in range(1, rounds + 1):
        _round(log, number, names, private, test_set, mishaps)
    if finished:
        log.append("run_finished", rounds, rounds_done=rounds, seconds=2.5 * rounds)
    log.close()
    (folder / "config.yaml").write_text(f"run:\n  name: {name}\n", encoding="utf-8")
    return folder


def _privacy(names: list[str]) -> dict[str, Any]:
    return {
        "unit": "example", "unit_text": UNIT, "not_hidden": "that a person took part, or a whole recording",
        "epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "accountant": "rdp", "simulated": True,
        "noise_multiplier": {name: 1.1 + 0.05 * (row % 3) for row, name in enumerate(names)},
        "sample_rate": dict.fromkeys(names, 0.25), "steps": dict.fromkeys(names, 8),
    }  # fmt: skip


def _round(log: RunLog, number: int, names: list[str], private: bool, test_set: bool, mishaps: bool) -> None:
    log.append("round_started", number, cohort=names)
    left_out = set(names[1:2]) if mishaps and number == 2 else set()
    for row, client in enumerate(names):
        if client in left_out:
            reason = f"update from {client}: expected finite values, got NaN"
            log.append("client_rejected", number, client_id=client, reason=reason)
            continue
        epsilon = (0.5 + 0.1 * (row % 5)) * number**0.5 if private else None
        log.append("client_finished", number, client_id=client, uplink_bytes=40_000, local_steps=8, epsilon=epsilon)
        accuracy = accuracy_after(number, private) - 0.03 * (row % 7)
        log.append("client_evaluated", number, visibility="simulation", client_id=client, examples=30 + row,
                   accuracy_float=accuracy, accuracy_int8=accuracy - 0.01)  # fmt: skip
    if mishaps and number == 3:
        log.append("artifact_vetoed", number, format="onnx", weight_bits=8,
                   reason="top-1 agreement: expected at least 0.99, got 0.42")  # fmt: skip
    else:
        log.append("artifact_published", number, format="onnx", weight_bits=8,
                   path=f"rounds/{number:04d}/onnx", bytes=14_100, bytes_float=46_200,
                   parity={"examples": 200, "top1_agreement": 1.0, "max_lsb": 1, "exact_fraction": 0.998})  # fmt: skip
    accuracy = accuracy_after(number, private)
    int8 = None if mishaps and number == 3 else accuracy - 0.001
    spent = 0.9 * number**0.5 if private else None
    accepted = [client for client in names if client not in left_out]
    log.append("round_finished", number, accepted=accepted, rejected=sorted(left_out),
               uplink_bytes=40_000 * len(accepted), downlink_bytes=41_000 * len(names), seconds=2.5, epsilon_max=spent,
               evaluation=evaluation(accuracy, int8, {"person 9": accuracy - 0.1}) if test_set else None)  # fmt: skip
