"""summary.json: the figures of one run for scripts, made from its events alone.

Peak memory belongs to the process and not to the run, so it is passed in. A figure that the run does
not have is null. The runs beside this one are listed with their own summaries.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import fl_core
from fl_core.files import write_json
from fl_core.runlog import Event, read_events
from fl_server.report import series

PACKAGES = ("torch", "flwr", "opacus", "onnx", "onnxruntime", "numpy")
"""Packages whose versions decide what a run computes."""


def write_summary(run_dir: Path, peak_rss_mb: float, *, seconds: float | None = None) -> Path:
    """Write ``run_dir/summary.json`` and give its path.

    Args:
        run_dir: a run folder; finished runs beside it (``beside/<name>/summary.json``) are taken in.
        peak_rss_mb: largest resident memory of the run's process, in MB.
        seconds: wall time of the run; None takes that of all its rounds from the events.

    Raises:
        RunFolderError: the folder holds no readable events.
    """
    events = list(read_events(run_dir))
    summary = summarize(events, series.seconds(events) if seconds is None else seconds, peak_rss_mb)
    summary["beside"] = beside_summaries(run_dir)
    path = run_dir / "summary.json"
    write_json(path, summary)
    return path


def summarize(events: Sequence[Event], seconds: float, peak_rss_mb: float) -> dict[str, Any]:
    """The summary of one run's events, without the runs beside it."""
    start = series.start_of(events)
    evaluation = series.last_evaluation(events)
    rounds = series.of_kind(events, "round_finished")
    trained = len(series.of_kind(events, "client_finished"))
    newest = series.main_artifact(events)
    artifacts = series.last_artifacts(events)
    return {
        "name": events[0]["run"] if events else None,
        "rounds_done": series.rounds_done(events),
        "clients": len(start.get("clients", ())),
        "strategy": start.get("strategy"),
        "model": start.get("model"),
        "seed": start.get("seed"),
        "metric": series.metric_name(events),
        "initial_accuracy": initial_accuracy(start),
        "accuracy_float": evaluation.get("accuracy_float"),
        "accuracy_fake_quant": evaluation.get("accuracy_fake_quant"),
        "accuracy_int8": evaluation.get("accuracy_int8"),
        "groups": dict(evaluation.get("groups") or {}),
        **_clients_accuracy(events),
        **_personal_accuracy(events),
        "parity": _parity(newest) if newest else None,
        "privacy": _privacy(events),
        "user_privacy": _user_privacy(events),
        "bytes_up": sum(event["uplink_bytes"] for event in rounds),
        "bytes_down": sum(event["downlink_bytes"] for event in rounds),
        "artifacts": [
            {
                "format": a.format,
                "weight_bits": a.weight_bits,
                "bytes": a.bytes,
                "bytes_float": a.bytes_float,
                "path": a.path,
            }
            for a in artifacts
        ],
        "widths": [_width(width) for width in series.widths(events)],
        "seconds": round(seconds, 3),
        "clients_per_second": round(trained / seconds, 3) if seconds > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
        "versions": versions(),
        "beside": [],
    }


def initial_accuracy(start: Event) -> float | None:
    """Accuracy of the untrained model: the artefact's, else fake-quant, else float."""
    initial = start.get("initial") or {}
    keys = ("accuracy_int8", "accuracy_fake_quant", "accuracy_float")
    return next((float(initial[key]) for key in keys if initial.get(key) is not None), None)


def beside_folders(run_dir: Path) -> list[Path]:
    """The run folders beside this run, by name."""
    return sorted(path.parent for path in (run_dir / "beside").glob("*/events.jsonl"))


def beside_summaries(run_dir: Path) -> list[dict[str, Any]]:
    """{name, path, summary...} of every finished run beside this one."""
    found = []
    for folder in beside_folders(run_dir):
        path = folder / "summary.json"
        if path.is_file():
            summary = json.loads(path.read_text(encoding="utf-8"))
            found.append({"name": folder.name, "path": str(folder.relative_to(run_dir)), **summary})
    return found


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of every package that decides what a run computes; null: not there."""
    found: dict[str, str | None] = {"python": platform.python_version(), "stonecrop": fl_core.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _clients_accuracy(events: Sequence[Event]) -> dict[str, Any]:
    rows = series.client_accuracies(events)
    if not rows:
        return {"clients_accuracy_mean": None, "clients_accuracy_worst": None}
    values = [row.accuracy for row in rows if row.accuracy is not None]
    worst = {"client_id": rows[0].client_id, "accuracy": rows[0].accuracy}
    return {"clients_accuracy_mean": sum(values) / len(values), "clients_accuracy_worst": worst}


def _personal_accuracy(events: Sequence[Event]) -> dict[str, Any]:
    rows = series.personal_scores(events)
    if not rows:
        return {"personal_accuracy_mean": None, "personal_accuracy_worst": None}
    worst = {"client_id": rows[0][0], "accuracy": rows[0][1]}
    return {"personal_accuracy_mean": sum(score for _, score in rows) / len(rows), "personal_accuracy_worst": worst}


def _parity(artifact: series.PublishedArtifact) -> dict[str, Any]:
    return {
        "examples": artifact.examples,
        "top1_agreement": artifact.top1_agreement,
        "max_lsb": artifact.max_lsb,
        "exact_fraction": artifact.exact_fraction,
    }


def _width(width: series.Width) -> dict[str, Any]:
    return {
        "weight_bits": width.weight_bits,
        "clients": list(width.clients),
        "accuracy_fake_quant": width.accuracy_fake_quant,
        "accuracy_int8": width.accuracy_int8,
        "artifacts": [artifact.path for artifact in width.artifacts],
    }


def _user_privacy(events: Sequence[Event]) -> dict[str, Any] | None:
    user = series.start_of(events).get("user_privacy")
    if user is None:
        return None
    kept = {name: user[name] for name in ("unit", "delta", "accountant", "simulated")}
    return {**kept, "epsilon": series.user_epsilon(events)}


def _privacy(events: Sequence[Event]) -> dict[str, Any] | None:
    privacy = series.start_of(events).get("privacy")
    if privacy is None:
        return None
    data = series.start_of(events).get("data") or {}
    return {
        "unit": privacy["unit"],
        "unit_text": privacy.get("unit_text") or data.get("unit"),
        "not_hidden": privacy.get("not_hidden") or data.get("not_hidden"),
        "epsilon_max": series.epsilon_max(events),
        "delta": privacy["delta"],
        "accountant": privacy["accountant"],
        "simulated": bool(privacy.get("simulated", False)),
        "named_seeds": series.named_seeds(events),
    }
