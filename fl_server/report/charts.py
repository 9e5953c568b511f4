"""Small line and bar charts as inline SVG: no script, no fetch, colours from the page so that light and dark both work.

A chart is an element tree, so every name that comes from a run is escaped; every mark carries a <title> that a pointer
shows and a screen reader reads, and the svg itself has role "img" with a title and a description. Series differ by
marker and dash as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

from fl_server.report.series import Line

WIDTH, HEIGHT = 640, 300  # user units of the viewBox; the page scales them
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 14, 44  # margins around the plot
MARKED_POINTS = 40  # a line with more points is drawn without markers
_UNITS = (("h", "hours", 3600.0), ("min", "minutes", 60.0), ("s", "seconds", 1.0))
_FEWEST_UNITS = 10.0  # a time of fewer hours is shown in minutes, one of fewer minutes in seconds

Formatter = Callable[[float], str]


@dataclass(frozen=True)
class Style:
    """How a line is drawn: ``css`` names its colour class; thin lines are for crowds."""

    css: str
    marker: str = "circle"
    width: float = 2.0
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """What a line runs over. Rounds are whole; time is shown in a ``unit`` of some ``scale`` seconds."""

    name: str = "round"
    unit: str = ""
    scale: float = 1.0

    def at(self, x: float) -> str:
        """A place on it in words."""
        return f"{x / self.scale:.3g} {self.unit}" if self.unit else f"{self.name} {x:g}"


ROUNDS = Axis()


@dataclass(frozen=True)
class Bar:
    """One bar; ``note`` marks it in words ("worst"), ``css`` in colour."""

    label: str
    value: float
    css: str = "s1"
    note: str = ""


def line_chart(
    title: str,
    lines: Sequence[tuple[Line, Style]],
    show: Formatter,
    *,
    zero: bool = False,
    top: float | None = None,
    axis: Axis = ROUNDS,
) -> Markup:
    """Lines over rounds or time. ``show`` prints a value; ``zero`` puts 0 on the axis, which never exceeds ``top``."""
    xs = [x for line, _ in lines for x, _ in line.points]
    ys = [y for line, _ in lines for _, y in line.points]
    ticks_y = nice_ticks(0.0 if zero else min(ys), max(ys), top)
    low, high = ticks_y[0], ticks_y[-1]
    first, last = min(xs), max(xs)
    pad = 0.5 if first == last else 0.0

    def x_of(x: float) -> float:
        return LEFT + (x - first + pad) / (last - first + 2 * pad) * (WIDTH - LEFT - RIGHT)

    def y_of(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    summary = "; ".join(f"{line.name}: {show(line.points[-1][1])} at the end" for line, _ in lines[:12])
    svg = _svg(title, f"{title}. {summary}.", HEIGHT)
    _y_axis(svg, [(y_of(tick), show(tick)) for tick in ticks_y])
    for tick in ticks_of(axis, first, last):
        _text(svg, x_of(tick), HEIGHT - BOTTOM + 17, f"{tick / axis.scale:g}", "middle")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, axis.name, "middle", "axis-name")
    for line, style in lines:
        _draw_line(svg, line, style, x_of, y_of, show, axis)
    return _markup(svg)


def bar_chart(title: str, bars: Sequence[Bar], show: Formatter, top: float | None = None) -> Markup:
    """Horizontal bars from 0, each with its label, its value and its note; for up to some 24 bars."""
    step, label_width = 26, 160
    height = TOP + step * len(bars) + 6
    high = max([bar.value for bar in bars] + ([top] if top is not None else [])) or 1.0
    room = WIDTH - label_width - 150
    svg = _svg(title, "; ".join(f"{bar.label}: {show(bar.value)} {bar.note}".strip() for bar in bars), height)
    for row, bar in enumerate(bars):
        y = TOP + row * step
        group = ET.SubElement(svg, "g")
        ET.SubElement(group, "title").text = f"{bar.label}: {show(bar.value)} {bar.note}".strip()
        _text(group, label_width - 8, y + 14, shorten(bar.label, 17), "end")
        width = max(bar.value, 0.0) / high * room
        ET.SubElement(group, "rect", _numbers(x=label_width, y=y + 2, width=max(width, 1), height=step - 9, rx=2) | {
            "class": f"fill {bar.css}"})  # fmt: skip
        value = f"{show(bar.value)}  {bar.note}".rstrip()
        _text(group, label_width + max(width, 1) + 6, y + 14, value, "start", "strong" if bar.note else "")
    return _markup(svg)


def column_chart(title: str, bars: Sequence[Bar], show: Formatter, top: float | None = None) -> Markup:
    """Narrow columns for crowds, in the given order; only bars with a note are named, all have a title."""
    values = [bar.value for bar in bars]
    ticks_y = nice_ticks(min(0.0, *values), max(0.0, *values), top)
    low, high = ticks_y[0], ticks_y[-1]
    named = ", ".join(f"{bar.label} {show(bar.value)} ({bar.note})" for bar in bars if bar.note)
    svg = _svg(title, f"{title}: {len(bars)} columns; {named}", HEIGHT)

    def y_of(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    _y_axis(svg, [(y_of(tick), show(tick)) for tick in ticks_y])
    step = (WIDTH - LEFT - RIGHT) / len(bars)
    for column, bar in enumerate(bars):
        x = LEFT + column * step
        bounds = sorted((y_of(bar.value), y_of(0.0)))
        rect = ET.SubElement(svg, "rect", _numbers(
            x=x + step * 0.1, y=bounds[0], width=step * 0.8, height=max(bounds[1] - bounds[0], 1)) | {
            "class": f"fill {bar.css}"})  # fmt: skip
        ET.SubElement(rect, "title").text = f"{bar.label}: {show(bar.value)} {bar.note}".strip()
        if bar.note:
            anchor = "start" if column < len(bars) / 2 else "end"
            _text(svg, x if anchor == "start" else x + step, HEIGHT - BOTTOM + 17, f"{bar.note}: {bar.label}", anchor,
                  "strong")  # fmt: skip
    return _markup(svg)


def nice_ticks(low: float, high: float, top: float | None = None) -> list[float]:
    """Three to seven round numbers whose first is at most ``low`` and whose last is at least ``high`` (or ``top``)."""
    highest = high
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-3):  # all alike, as far as an axis can show
        low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if abs(low) > 1e-6 else (0.0, 1.0)
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if (high - low) / (factor * magnitude) <= 5.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]
    if top is not None and ticks[-1] > top >= highest:
        ticks = [tick for tick in ticks if tick < top] + [top]
    return ticks


def time_axis(kind: str, last_s: float) -> Axis:
    """The axis of time that reaches to ``last_s`` seconds, of the ``kind`` "wall" or "virtual"."""
    unit, name, scale = next((each for each in _UNITS if last_s >= _FEWEST_UNITS * each[2]), _UNITS[-1])
    return Axis(f"{name} of {kind} time", unit, scale)


def ticks_of(axis: Axis, first: float, last: float) -> list[float]:
    """Where the ticks of an axis from ``first`` to ``last`` stand."""
    if not axis.unit:
        return [float(tick) for tick in round_ticks(round(first), round(last))]
    return [
        tick * axis.scale for tick in nice_ticks(first / axis.scale, last / axis.scale) if tick * axis.scale <= last
    ]


def round_ticks(first: int, last: int) -> list[int]:
    """At most nine whole rounds between ``first`` and ``last``."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if (last - first) / step <= 8)
    return [number for number in range(first, last + 1) if number % step == 0] or [first]


def shorten(text: str, length: int) -> str:
    """``text``, with its middle left out where it is too long."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def _draw_line(
    svg: ET.Element,
    line: Line,
    style: Style,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    show: Formatter,
    axis: Axis,
) -> None:
    group = ET.SubElement(svg, "g", {"class": style.css})
    ET.SubElement(group, "title").text = line.name
    places = [(x_of(x), y_of(y)) for x, y in line.points]
    attributes = {
        "class": "line",
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        "stroke-width": f"{style.width:g}",
    }
    if style.dashed:
        attributes["stroke-dasharray"] = "6 4"
    ET.SubElement(group, "polyline", attributes)
    if len(places) > MARKED_POINTS or (style.width < 1.5 and len(places) > 1):
        return
    for (x, y), (at, value) in zip(places, line.points, strict=True):
        mark = ET.SubElement(group, *marker(style.marker, x, y, size=2 + style.width / 2))
        ET.SubElement(mark, "title").text = f"{line.name}, {axis.at(at)}: {show(value)}"


def marker(kind: str, x: float, y: float, size: float) -> tuple[str, dict[str, str]]:
    """Tag and attributes of a mark around (x, y)."""
    if kind == "square":
        return "rect", _numbers(x=x - size, y=y - size, width=2 * size, height=2 * size) | {"class": "mark"}
    if kind == "diamond":
        corners = [(x, y - 1.4 * size), (x + 1.4 * size, y), (x, y + 1.4 * size), (x - 1.4 * size, y)]
        return "polygon", {"points": " ".join(f"{a:.1f},{b:.1f}" for a, b in corners), "class": "mark"}
    return "circle", _numbers(cx=x, cy=y, r=size) | {"class": "mark"}


def _svg(title: str, description: str, height: float) -> ET.Element:
    svg = ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "class": "chart",
                             "aria-label": description})  # fmt: skip
    ET.SubElement(svg, "title").text = title
    ET.SubElement(svg, "desc").text = description
    return svg


def _y_axis(svg: ET.Element, ticks: Sequence[tuple[float, str]]) -> None:
    for y, label in ticks:
        ET.SubElement(svg, "line", _numbers(x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y) | {"class": "grid"})
        _text(svg, LEFT - 8, y + 4, label.replace(".0 %", " %"), "end")


def _text(parent: ET.Element, x: float, y: float, text: str, anchor: str, css: str = "") -> None:
    attributes = _numbers(x=x, y=y) | {"text-anchor": anchor} | ({"class": css} if css else {})
    ET.SubElement(parent, "text", attributes).text = text


def _numbers(**values: float) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in values.items()}


def _markup(svg: ET.Element) -> Markup:
    return Markup(ET.tostring(svg, encoding="unicode"))
