"""report.html: one file that shows a whole run, made from its run folder alone and readable without a network.

``build_report`` reads events.jsonl, config.yaml and summary.json (the last two may be missing: a run that still goes on
has a report too), gathers what the template shows, and writes the page atomically. The figures come from ``series``,
the drawings from ``charts``, the words on privacy from ``privacy_words``; the template decides about layout alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fl_core.files import read_json, write_atomic
from fl_core.runlog import read_events
from fl_server.report import privacy_words, series, timeline
from fl_server.report.charts import Bar, Formatter, Style, bar_chart, line_chart, time_axis
from fl_server.report.classes import confusion
from fl_server.report.per_client import client_sizes, client_sizes_figure, clients_figure, sizes_words
from fl_server.report.summary import summarize
from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.clipped import newest_clipped
from fl_server.watch.failure import Failure
from fl_server.watch.findings import findings
from fl_server.watch.folder import companion_folders
from fl_server.watch.records import PublishedArtifact, artifact_name
from fl_server.watch.state import RunState, state_of
from fl_server.watch.words import as_bytes, as_metric, as_plain, as_seconds, as_share, liars_words

MOST_LINES = 8  # clients with an epsilon line of their own colour
ACCURACY_STYLES = dict(
    zip(  # the three nearly coincide: a wide pale line, a middle one, a thin one on top
        ACCURACIES.values(),
        (Style("s1", "square", 6.0), Style("s2", "diamond", 3.0), Style("s3", "circle", 1.5)),
        strict=True,
    )
)
TRAFFIC_STYLES = (Style("s3", "circle"), Style("s2", "square", dashed=True))


def build_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` and give its path.

    Raises:
        RunFolderError: the folder holds no readable events.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bytes": as_bytes, "seconds": as_seconds, "share": as_share}
    page = environment.get_template("report.html.j2").render(**report_context(run_dir))
    path = run_dir / "report.html"
    write_atomic(path, page.encode())
    return path


def report_context(run_dir: Path) -> dict[str, Any]:
    """Everything that the template shows.

    Raises:
        RunFolderError: the folder holds no readable events.
    """
    failures = failures_of(run_dir)
    # A run may fail before it has any events.
    state = state_of(() if failures and not (run_dir / "events.jsonl").exists() else read_events(run_dir))
    folders = companion_folders(run_dir, "events.jsonl")
    companions = {folder.name: state_of(read_events(folder)) for folder in folders}
    own = summarize(state)
    summary = own | (read_json(run_dir / "summary.json") or {})
    others = [summarize(companion) | {"name": name} for name, companion in companions.items()]
    runs = [own | {"name": summary["name"]}, *others]
    config = run_dir / "config.yaml"
    return {
        "name": summary["name"] or run_dir.name,
        "summary": summary,
        "show": as_metric(state.metric),
        "rounds_planned": state.start.get("rounds"),
        "finished": state.finished,
        "data": state.data,
        "runs": runs,
        "other_model": privacy_words.model_sentence(run["model"] for run in runs),
        "pooled": not state.start.get("initial"),
        "personal": series.personal_scores(state),
        "artifacts": series.last_artifacts(state),
        "published": state.artifacts,
        "widths": series.widths(state),
        "failures": failures,
        "trained": bool(state.updates),
        "findings": [(name, found) for name, each in {"": state, **companions}.items() for found in findings(each)],
        "liars": liars_words(state.attack, len(state.start.get("clients", ()))),
        "forms": ACCURACIES,
        "confusion": confusion(state),
        "clipped": newest_clipped(state),
        "mishaps": state.mishaps,
        "resumed": state.resumed,
        "simulation_only": privacy_words.SIMULATION_ONLY,
        "config": config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        **_figures(state, companions),
        **_privacy(state),
    }


def failures_of(run_dir: Path) -> list[str]:
    """Why the run stopped, and with its name why a companion did, one line a problem; empty where all goes on."""
    found = {"": Failure.at(run_dir).read()}
    found |= {f"{each.name}: ": Failure.at(each).read() for each in companion_folders(run_dir, "failure.json")}
    return [f"{who}{problem}" for who, failure in found.items() if failure for problem in failure["problems"]]


def _figures(state: RunState, companions: Mapping[str, RunState]) -> dict[str, Any]:
    """The drawings, with the rows that stand below some of them."""
    show = as_metric(state.metric)
    clients = series.client_accuracies(state)
    epsilons, trained_on = series.epsilon_lines(state), client_sizes(state)
    return {
        "accuracy": accuracy_figure(state, companions, show),
        "over_time": over_time_figure(state, show),
        "virtual_time": timeline.is_virtual(state),
        "epsilon": epsilon_figure(epsilons, state.privacy),
        "epsilon_rows": [(line.name, line.points[-1][1]) for line in epsilons],
        "clients": clients,
        "clients_figure": clients_figure(clients, show, state.metric),
        "client_sizes": trained_on,
        "client_sizes_figure": client_sizes_figure(trained_on),
        "client_sizes_words": sizes_words(trained_on),
        "traffic": traffic_figure(state),
        "sizes": sizes_figure(series.last_artifacts(state)),
    }


def _privacy(state: RunState) -> dict[str, Any]:
    """The words on the devices' privacy and on that of whole clients."""
    user = state.start.get("user_privacy")
    return {
        "privacy": privacy_words.describe(
            state.privacy,
            state.data,
            state.epsilon_max,
            whole_clients=bool(user),
            named_seeds=state.named_seeds,
        ),
        "user_privacy": privacy_words.describe_user(user, state.user_epsilon),
    }


def accuracy_figure(state: RunState, companions: Mapping[str, RunState], show: Formatter) -> Mapping[str, Any]:
    """Accuracy per round, with the artefact (or the float model) of every companion; {} where nothing is known."""
    lines = [(line, ACCURACY_STYLES[line.name]) for line in series.accuracy_lines(state)]
    for number, (name, companion) in enumerate(companions.items()):
        others = series.accuracy_lines(companion)
        if others:
            named = series.Line(f"{name} (beside, {others[-1].name})", others[-1].points)
            lines.append((named, Style(f"s{4 + number % 2}", "circle", 1.5, dashed=True)))
    if not lines:
        return {}
    top = 1.0 if state.metric == "accuracy" else None
    return _figure(line_chart(f"{state.metric.capitalize()} per round", lines, show, top=top), lines)


def over_time_figure(state: RunState, show: Formatter) -> Mapping[str, Any]:
    """Accuracy over virtual or wall time; {} before the first round has ended, or where nothing is known."""
    lines = [(line, ACCURACY_STYLES[line.name]) for line in timeline.accuracy_over_time(state)]
    last_s = max((line.points[-1][0] for line, _ in lines), default=0.0)
    if last_s == 0:
        return {}
    axis = time_axis("virtual" if timeline.is_virtual(state) else "wall", last_s)
    top = 1.0 if state.metric == "accuracy" else None
    return _figure(line_chart(f"{state.metric.capitalize()} over time", lines, show, top=top, axis=axis), lines)


def epsilon_figure(epsilons: Sequence[series.Line], privacy: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Cumulative epsilon per client; a crowd is drawn thin with the largest on top; {} without DP."""
    lines = series.merge_alike(epsilons)
    if not lines:
        return {}
    title = "Cumulative epsilon per client"
    if len(lines) <= MOST_LINES:
        drawn = [
            (line, Style(f"s{1 + number % 5}", ("circle", "square", "diamond")[number % 3], 2.0, dashed=number >= 5))
            for number, line in enumerate(lines)
        ]
        legend = drawn
    else:
        largest = max(lines, key=lambda line: line.points[-1][1])
        thin = [(line, Style("s0", width=1.0)) for line in lines if line is not largest]
        marked = (series.Line(f"{largest.name} (largest)", largest.points), Style("s1"))
        drawn = [*thin, marked]
        legend = [(series.Line("all others", largest.points), Style("s0", width=1.0)), marked]
    if privacy:
        rounds = sorted({number for line in lines for number, _ in line.points})
        cap = (series.Line("cap of the run", tuple((number, privacy["epsilon"]) for number in (rounds[0], rounds[-1]))),
               Style("s6", width=1.4, dashed=True))  # fmt: skip
        drawn, legend = [*drawn, cap], [*legend, cap]
    return _figure(line_chart(title, drawn, as_plain, zero=True), legend)


def traffic_figure(state: RunState) -> Mapping[str, Any]:
    """Bytes up and down of every round; {} before the first."""
    lines = list(zip(series.traffic_lines(state), TRAFFIC_STYLES, strict=False))
    return _figure(line_chart("Bytes per round, all clients", lines, as_bytes, zero=True), lines) if lines else {}


def sizes_figure(artifacts: Sequence[PublishedArtifact]) -> Markup | None:
    """Bytes of the newest artefacts, int8 below float32; None before the first."""
    bars = []
    for artifact in artifacts:
        times = artifact.bytes_float / max(artifact.bytes, 1)
        share = (
            f"{times:.1f} times smaller" if times >= 1.05 else ""
        )  # of a tiny net the format itself is the larger part
        name = artifact_name(f"{artifact.format} int8", artifact.weight_bits)
        bars += [Bar(f"{artifact.format} float32", artifact.bytes_float, "s1"),
                 Bar(name, artifact.bytes, "s3", share)]  # fmt: skip
    return bar_chart("Artefact sizes", bars, as_bytes) if bars else None


def _figure(chart: Markup, lines: Sequence[tuple[series.Line, Style]]) -> Mapping[str, Any]:
    return {"chart": chart, "legend": [(line.name, style) for line, style in lines]}
