"""Figures in words for people: the same in the report, in live progress and in the tables of the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ABSENT = "–"  # noqa: RUF001 - an en dash stands for "no figure"
NOT_PRIVATE = "not private: named seeds"
"""What stands in place of an epsilon where a board draws its noise from named seeds."""


def as_metric(metric: str) -> Callable[[float | None], str]:
    """Accuracies as a percentage with one decimal, any other metric as a plain figure; None as a dash."""
    return as_percent if metric == "accuracy" else as_plain


def as_percent(value: float | None) -> str:
    """0.935 as "93.5 %"."""
    return ABSENT if value is None else f"{value * 100:.1f} %"


def as_share(value: float | None) -> str:
    """0.99915 as "99.92 %": two decimals, for shares close to one."""
    return ABSENT if value is None else f"{value * 100:.2f} %"


def as_plain(value: float | None) -> str:
    """Four significant digits."""
    return ABSENT if value is None else f"{value:.4g}"


def as_bytes(value: float | None) -> str:
    """Bytes in B, kB, MB or GB (powers of 1000)."""
    if value is None:
        return ABSENT
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def as_seconds(value: float | None) -> str:
    """Seconds as "42 s", "3 min 10 s" or "2 h 05 min"."""
    if value is None:
        return ABSENT
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def liars_words(attack: Mapping[str, Any] | None, clients: int) -> str:
    """The attack of a simulation as "4 of 20 (sign_flip)"; empty where all clients are honest."""
    return f"{len(attack['clients'])} of {clients} ({attack['name']})" if attack else ""
