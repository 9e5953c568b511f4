"""The closing table of a run and of its companions, which the commands print; what epsilon means stands below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fl_core.findings import Finding
from fl_server.report.privacy_words import model_sentence, noise_sentence, unit_sentence, user_sentence
from fl_server.watch.accuracy import ACCURACIES
from fl_server.watch.words import ABSENT, NOT_PRIVATE, as_bytes, as_metric, as_seconds, as_share, liars_words

Summary = Mapping[str, Any]


def closing_table(summaries: Sequence[Summary]) -> Table:
    """The figures of a run and of its companions, one column a run; what epsilon means stands below."""
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


def print_closing(console: Console, summaries: Sequence[Summary]) -> None:
    """Print the closing table, and below it what a person should know of these runs."""
    console.print(closing_table(summaries))
    for line in finding_lines(summaries):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def finding_lines(summaries: Sequence[Summary]) -> list[str]:
    """What a person should know of these runs, one line each, with the run's name where there are several."""
    named = len(summaries) > 1
    return [
        f"{summary['name']}: {Finding.of(plain)}" if named else str(Finding.of(plain))
        for summary in summaries
        for plain in summary.get("findings", ())
    ]


def privacy_lines(summaries: Sequence[Summary]) -> list[str]:
    """The unit of privacy, what it does not hide, and that simulated noise protects nobody: for the runs with DP."""
    lines = []
    for privacy in (summary["privacy"] for summary in summaries if summary["privacy"]):
        lines.append(unit_sentence(privacy.get("unit_text") or privacy["unit"], privacy.get("not_hidden") or ""))
        lines.append(noise_sentence(privacy["simulated"], privacy.get("named_seeds", False)))
    lines += [user_sentence(summary.get("user_privacy")) for summary in summaries]
    return list(dict.fromkeys(line for line in lines if line))


def _rows(summaries: Sequence[Summary]) -> list[tuple[str, Callable[[Summary], str]]]:
    metric = str(summaries[0]["metric"])
    show = as_metric(metric)
    groups = list(dict.fromkeys(group for summary in summaries for group in summary["groups"]))
    widths = list(dict.fromkeys(width["weight_bits"] for summary in summaries for width in summary["widths"]))
    return [
        ("model", lambda s: str(s["model"] or ABSENT)),
        ("rounds", lambda s: str(s["rounds_done"])),
        ("clients that lie", lambda s: liars_words(s["attack"], s["clients"]) or ABSENT),
        (f"{metric} before training", lambda s: show(s["initial_accuracy"])),
        *((f"{metric}, {name}", _figure(form, show)) for form, name in ACCURACIES.items()),
        *_beside_last(summaries, metric, show),
        *((f"  {group}", _group(group, show)) for group in groups),
        *((f"  at {bits}-bit weights, int8", _width(bits, show)) for bits in widths),
        ("clients' own held-out, mean", lambda s: show(s["clients_accuracy_mean"])),
        ("clients' own held-out, worst", lambda s: _worst(s["clients_accuracy_worst"], show)),
        *_personal(summaries, show),
        ("epsilon, largest", _epsilon),
        ("top-1 agreement", lambda s: as_share(s["parity"]["top1_agreement"]) if s["parity"] else ABSENT),
        ("exactly equal outputs", lambda s: as_share(s["parity"]["exact_fraction"]) if s["parity"] else ABSENT),
        ("largest difference", lambda s: f"{s['parity']['max_lsb']:g} LSB" if s["parity"] else ABSENT),
        *_bits(summaries),
        ("artefact, int8 / float32", _sizes),
        ("bytes up / down", lambda s: f"{as_bytes(s['bytes_up'])} / {as_bytes(s['bytes_down'])}"),
        ("time", lambda s: as_seconds(s["seconds"])),
    ]


def _beside_last(
    summaries: Sequence[Summary], metric: str, show: Callable[[float | None], str]
) -> list[tuple[str, Callable[[Summary], str]]]:
    """The best round and the median of the last ones, where any run has another figure there than in its last round."""
    shown = [
        (show(s["median_last"]["last"]), show(s["best"]["accuracy"]), show(s["median_last"]["accuracy"]))
        for s in summaries
        if s["best"]
    ]
    if all(len(set(figures)) == 1 for figures in shown):
        return []
    return [
        (f"{metric}, best round", lambda s: _best(s, show)),
        (f"{metric}, median of last rounds", lambda s: _median(s, show)),
    ]


def _bits(summaries: Sequence[Summary]) -> list[tuple[str, Callable[[Summary], str]]]:
    """The width of the weights, where that of any run is not 8 bits."""
    widths = {artifact["weight_bits"] for summary in summaries for artifact in summary["artifacts"]}
    if widths <= {8, None}:
        return []
    return [("weight bits", lambda s: ", ".join(sorted({str(a["weight_bits"]) for a in s["artifacts"]})) or ABSENT)]


def _best(summary: Summary, show: Callable[[float | None], str]) -> str:
    best = summary["best"]
    return f"{show(best['accuracy'])} (round {best['round']})" if best else ABSENT


def _median(summary: Summary, show: Callable[[float | None], str]) -> str:
    found = summary["median_last"]
    return f"{show(found['accuracy'])} (of {found['rounds']})" if found else ABSENT


def _figure(field: str, show: Callable[[float | None], str]) -> Callable[[Summary], str]:
    return lambda summary: show(summary[field])


def _group(group: str, show: Callable[[float | None], str]) -> Callable[[Summary], str]:
    return lambda summary: show(summary["groups"].get(group))


def _width(bits: int, show: Callable[[float | None], str]) -> Callable[[Summary], str]:
    """The artefact of one width of a fleet of several."""

    def cell(summary: Summary) -> str:
        own = next((width for width in summary["widths"] if width["weight_bits"] == bits), None)
        if own is None:
            return ABSENT
        return f"{show(own['accuracy_int8'])}, {len(own['clients'])} clients"

    return cell


def _personal(
    summaries: Sequence[Summary], show: Callable[[float | None], str]
) -> list[tuple[str, Callable[[Summary], str]]]:
    """Rows on the clients' own models, where any run has such."""
    if all(summary["personal_accuracy_mean"] is None for summary in summaries):
        return []
    return [
        ("personal models, mean", lambda s: show(s["personal_accuracy_mean"])),
        ("personal models, worst", lambda s: _worst(s["personal_accuracy_worst"], show)),
    ]


def _worst(worst: Mapping[str, Any] | None, show: Callable[[float | None], str]) -> str:
    return f"{show(worst['accuracy'])} ({worst['client_id']})" if worst else ABSENT


def _epsilon(summary: Summary) -> str:
    privacy = summary["privacy"]
    if privacy is None:
        return "no DP"
    if privacy.get("named_seeds"):
        return NOT_PRIVATE
    spent = ABSENT if privacy["epsilon_max"] is None else f"{privacy['epsilon_max']:.3f}"
    return f"{spent} at delta {privacy['delta']:g}"


def _sizes(summary: Summary) -> str:
    sizes = [f"{as_bytes(a['bytes'])} / {as_bytes(a['bytes_float'])}" for a in summary["artifacts"]]
    return ", ".join(sizes) or ABSENT
