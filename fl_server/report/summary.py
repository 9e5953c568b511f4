"""summary.json: the figures of one run for scripts, made from its state alone.

Peak memory belongs to the process and not to the run, so it is passed in. A figure that the run does not have is null.
The companion runs are listed with their own summaries.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import fl_core
from fl_core.files import read_json, write_json
from fl_core.runlog import read_events
from fl_server.report import series
from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.curve import learning_curve
from fl_server.watch.findings import findings
from fl_server.watch.folder import companion_folders
from fl_server.watch.records import PublishedArtifact
from fl_server.watch.state import RunState, state_of

PACKAGES = ("torch", "flwr", "opacus", "onnx", "onnxruntime", "numpy")
"""Packages whose versions decide what a run computes."""


def write_summary(run_dir: Path, peak_rss_mb: float, *, seconds: float | None = None) -> Path:
    """Write ``run_dir/summary.json`` and give its path.

    Args:
        run_dir: a run folder; the summaries of its finished companion runs are taken in.
        peak_rss_mb: largest resident memory of the run's process, in MB.
        seconds: wall time of the run; None takes that of all its rounds from the events.

    Raises:
        RunFolderError: the folder holds no readable events.
    """
    summary = summarize(state_of(read_events(run_dir)), seconds, peak_rss_mb)
    summary["beside"] = companion_summaries(run_dir)
    path = run_dir / "summary.json"
    write_json(path, summary)
    return path


def summarize(state: RunState, seconds: float | None = None, peak_rss_mb: float = 0.0) -> dict[str, Any]:
    """The summary of one run without its companions; ``seconds`` is its wall time, None that of all its rounds."""
    start, seconds = state.start, state.seconds if seconds is None else seconds
    evaluation = series.last_evaluation(state)
    newest = series.main_artifact(state)
    return {
        "name": state.name or None,
        "rounds_done": state.rounds_done,
        "clients": len(start.get("clients", ())),
        "strategy": start.get("strategy"),
        "attack": state.attack,
        "model": start.get("model"),
        "seed": start.get("seed"),
        "metric": state.metric,
        "initial_accuracy": state.initial_accuracy,
        **{form: evaluation.get(form) for form in ACCURACIES},
        **_beside_last(state),
        "groups": dict(evaluation.get("groups") or {}),
        **_clients_accuracy(state),
        **_personal_accuracy(state),
        "parity": _parity(newest) if newest else None,
        "privacy": _privacy(state),
        "user_privacy": _user_privacy(state),
        "bytes_up": state.bytes_up,
        "bytes_down": state.bytes_down,
        "artifacts": [_artifact(artifact) for artifact in series.last_artifacts(state)],
        "widths": [_width(width) for width in series.widths(state)],
        "seconds": round(seconds, 3),
        "clients_per_second": round(state.updates / seconds, 3) if seconds > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
        "versions": versions(),
        "findings": [finding.to_plain() for finding in findings(state)],
        "beside": [],
    }


def companion_summaries(run_dir: Path) -> list[dict[str, Any]]:
    """{name, path, summary...} of every finished companion run."""
    summaries = ((folder, read_json(folder / "summary.json")) for folder in companion_folders(run_dir, "events.jsonl"))
    return [
        {"name": folder.name, "path": str(folder.relative_to(run_dir)), **summary}
        for folder, summary in summaries
        if summary is not None
    ]


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of every package that decides what a run computes; null: not there."""
    found: dict[str, str | None] = {"python": platform.python_version(), "stonecrop": fl_core.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _beside_last(state: RunState) -> dict[str, Any]:
    """The best round and the median of the last ones, in the form in which most rounds were measured."""
    curve = learning_curve(state)
    if curve is None:
        return {"best": None, "median_last": None}
    (number, best), form = curve.best, curve.form
    return {
        "best": {"round": number, "accuracy": best, "form": form},
        "median_last": {"rounds": len(curve.newest), "accuracy": curve.median_last, "last": curve.last, "form": form},
    }


def _clients_accuracy(state: RunState) -> dict[str, Any]:
    rows = series.client_accuracies(state)
    if not rows:
        return {"clients_accuracy_mean": None, "clients_accuracy_worst": None}
    values = [row.accuracy for row in rows if row.accuracy is not None]
    worst = {"client_id": rows[0].client_id, "accuracy": rows[0].accuracy}
    return {"clients_accuracy_mean": sum(values) / len(values), "clients_accuracy_worst": worst}


def _personal_accuracy(state: RunState) -> dict[str, Any]:
    rows = series.personal_scores(state)
    if not rows:
        return {"personal_accuracy_mean": None, "personal_accuracy_worst": None}
    worst = {"client_id": rows[0][0], "accuracy": rows[0][1]}
    return {"personal_accuracy_mean": sum(score for _, score in rows) / len(rows), "personal_accuracy_worst": worst}


def _artifact(artifact: PublishedArtifact) -> dict[str, Any]:
    return {
        "format": artifact.format,
        "weight_bits": artifact.weight_bits,
        "bytes": artifact.bytes,
        "bytes_float": artifact.bytes_float,
        "path": artifact.path,
    }


def _parity(artifact: PublishedArtifact) -> dict[str, Any] | None:
    if artifact.examples is None:
        return None
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


def _user_privacy(state: RunState) -> dict[str, Any] | None:
    user = state.start.get("user_privacy")
    if user is None:
        return None
    kept = {name: user[name] for name in ("unit", "delta", "accountant", "simulated")}
    return {**kept, "epsilon": state.user_epsilon}


def _privacy(state: RunState) -> dict[str, Any] | None:
    privacy = state.privacy
    if privacy is None:
        return None
    return {
        "unit": privacy["unit"],
        "unit_text": privacy.get("unit_text") or state.data.get("unit"),
        "not_hidden": privacy.get("not_hidden") or state.data.get("not_hidden"),
        "epsilon_max": state.epsilon_max,
        "delta": privacy["delta"],
        "accountant": privacy["accountant"],
        "simulated": bool(privacy.get("simulated", False)),
        "named_seeds": state.named_seeds,
    }
