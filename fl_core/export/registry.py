"""The exporters there are, by the name that ``export.formats`` of a config uses, and how one is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fl_core.errors import ConfigError
from fl_core.export.base import Exporter
from fl_core.export.onnx.exporter import OnnxExporter
from fl_core.registry import look_up

EXPORTERS: Mapping[str, Callable[..., Exporter]] = {
    "onnx": OnnxExporter,
}


@dataclass(frozen=True)
class FormatSection:
    """A format with arguments of its exporter; a format without any is its name alone."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


def format_name(format: str | FormatSection) -> str:
    """Name of a format, whichever way a config states it."""
    return format if isinstance(format, str) else format.name


def build_exporter(format: str | FormatSection) -> Exporter:
    """The exporter of a format, made with its arguments.

    Raises:
        ConfigError: there is no such format, and the message names the nearest one; or it refuses its arguments.
    """
    name = format_name(format)
    maker = look_up("export.formats", name, EXPORTERS)
    try:
        return maker(**({} if isinstance(format, str) else format.args))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"export.formats.{name}.args: {error}") from None
