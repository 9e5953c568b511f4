"""The tables that the commands print: the closing table of a run, and the outline of what a config would run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fl_server.report.privacy_words import SIMULATED_NOISE, model_sentence, span, unit_sentence
from fl_server.report.show import ABSENT, as_bytes, as_metric, as_seconds, as_share

if TYPE_CHECKING:
    from simulation.run import RunOutline

Summary = Mapping[str, Any]


def closing_table(summaries: Sequence[Summary]) -> Table:
    """The figures of a run and of those beside it, one column a run; what epsilon means stands below."""
    notes = [*privacy_lines(summaries), model_sentence(summary["model"] for summary in summaries)]
    table = Table(
        caption="\n".join(note for note in notes if note) or None, caption_justify="left", title_justify="left"
    )
    table.add_column("")
    for summary in summaries:
        table.add_column(str(summary["name"]), justify="right")
    for label, show in _rows(summaries):
        cells = [show(summary) for summary in summaries]
        if any(cell != ABSENT for cell in cells):
            table.add_row(label, *cells)
    return table


def privacy_lines(summaries: Sequence[Summary]) -> list[str]:
    """The unit of privacy, what it does not hide, and that simulated noise protects nobody: for the runs with DP."""
    lines = []
    for privacy in (summary["privacy"] for summary in summaries if summary["privacy"]):
        lines.append(unit_sentence(privacy.get("unit_text") or privacy["unit"], privacy.get("not_hidden") or ""))
        lines += [SIMULATED_NOISE] if privacy["simulated"] else []
    return list(dict.fromkeys(lines))


def outline_table(outline: RunOutline) -> Table:
    """What a config would run."""
    table = Table(title=f"{outline.config.run.name}: nothing is wrong; this would run", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    rows = [
        ("clients", f"{outline.clients}, {outline.config.clients.per_round or 'all'} a round"),
        ("training examples", f"{outline.examples:,}"),
        ("model", outline.config.model.name or outline.config.model.factory or ""),
        ("trained parameters", f"{outline.parameters:,}"),
        ("rounds", str(outline.rounds)),
        ("strategy", outline.config.strategy.name or outline.config.strategy.factory or ""),
        (
            "artefacts",
            f"{', '.join(outline.formats)}, {_how_often(outline.config.export.every)}" if outline.formats else "none",
        ),
        ("run beside it", outline.config.run.beside or "none"),
        *_privacy_rows(outline.privacy),
    ]
    for label, value in rows:
        table.add_row(label, value)
    return table


def _how_often(every: int) -> str:
    return "after each round" if every == 1 else f"every {every} rounds and after the last"


def _privacy_rows(privacy: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if privacy is None:
        return [("privacy", "none: no differential privacy")]
    return [
        ("privacy", f"epsilon {privacy['epsilon']:g}, delta {privacy['delta']:g}, {privacy['accountant']}"),
        ("unit of privacy", str(privacy.get("unit_text") or privacy["unit"])),
        ("noise multiplier", span(privacy["noise_multiplier"])),
        ("sample rate", span(privacy["sample_rate"])),
        ("noisy steps a round", span(privacy["steps"])),
    ]


def _rows(summaries: Sequence[Summary]) -> list[tuple[str, Callable[[Summary], str]]]:
    metric = str(summaries[0]["metric"])
    show = as_metric(metric)
    groups = list(dict.fromkeys(group for summary in summaries for group in summary["groups"]))
    return [
        ("model", lambda s: str(s["model"] or ABSENT)),
        ("rounds", lambda s: str(s["rounds_done"])),
        (f"{metric} before training", lambda s: show(s["initial_accuracy"])),
        (f"{metric}, float", lambda s: show(s["accuracy_float"])),
        (f"{metric}, fake-quant", lambda s: show(s["accuracy_fake_quant"])),
        (f"{metric}, int8 in its runtime", lambda s: show(s["accuracy_int8"])),
        *((f"  {group}", _group(group, show)) for group in groups),
        ("clients' own held-out, mean", lambda s: show(s["clients_accuracy_mean"])),
        ("clients' own held-out, worst", lambda s: _worst(s, show)),
        ("epsilon, largest", _epsilon),
        ("top-1 agreement", lambda s: as_share(s["parity"]["top1_agreement"]) if s["parity"] else ABSENT),
        ("exactly equal outputs", lambda s: as_share(s["parity"]["exact_fraction"]) if s["parity"] else ABSENT),
        ("largest difference", lambda s: f"{s['parity']['max_lsb']:g} LSB" if s["parity"] else ABSENT),
        ("artefact, int8 / float32", _sizes),
        ("bytes up / down", lambda s: f"{as_bytes(s['bytes_up'])} / {as_bytes(s['bytes_down'])}"),
        ("time", lambda s: as_seconds(s["seconds"])),
    ]


def _group(group: str, show: Callable[[float | None], str]) -> Callable[[Summary], str]:
    return lambda summary: show(summary["groups"].get(group))


def _worst(summary: Summary, show: Callable[[float | None], str]) -> str:
    worst = summary["clients_accuracy_worst"]
    return f"{show(worst['accuracy'])} ({worst['client_id']})" if worst else ABSENT


def _epsilon(summary: Summary) -> str:
    privacy = summary["privacy"]
    if privacy is None:
        return "no DP"
    spent = ABSENT if privacy["epsilon_max"] is None else f"{privacy['epsilon_max']:.3f}"
    return f"{spent} at delta {privacy['delta']:g}"


def _sizes(summary: Summary) -> str:
    sizes = [f"{as_bytes(a['bytes'])} / {as_bytes(a['bytes_float'])}" for a in summary["artifacts"]]
    return ", ".join(sizes) or ABSENT
