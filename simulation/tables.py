"""The outline of what a config would run, as a table that the commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fl_server.report.privacy_words import span

if TYPE_CHECKING:
    from fl_core.quant.spec import QuantSpec
    from simulation.preflight import RunOutline


def outline_table(outline: RunOutline) -> Table:
    """The outline as a table of two columns: what, and how much."""
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
        ("companion run", outline.config.run.companion or "none"),
        *_width_rows(outline.config.quant),
        *(_privacy_rows(outline.privacy) if outline.privacy or not outline.user_privacy else []),
        *_user_rows(outline.user_privacy),
    ]
    for label, value in rows:
        table.add_row(label, value)
    return table


def _how_often(every: int) -> str:
    return "after each round" if every == 1 else f"every {every} rounds and after the last"


def _width_rows(quant: QuantSpec) -> list[tuple[str, str]]:
    clients = [f"{client} {bits}" for client, bits in sorted(quant.client_bits.items())]
    return [("weight bits", "; ".join([str(quant.weight_bits), *([", ".join(clients)] if clients else [])]))]


def _user_rows(user: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Rows on the guarantee for whole clients, which comes in addition to the one for single examples."""
    if user is None:
        return []
    return [
        ("privacy of whole clients", f"epsilon {user['epsilon']:g}, delta {user['delta']:g}, {user['accountant']}"),
        (
            "noise at the server",
            f"{user['noise_multiplier']:.4g} x clip norm {user['clip_norm']:g}, {user['mechanism']}",
        ),
    ]


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
