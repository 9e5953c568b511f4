"""The exporters there are, by the name that ``export.formats`` of a config uses."""

from __future__ import annotations

from collections.abc import Mapping

from fl_core.export.base import Exporter
from fl_core.export.onnx.exporter import OnnxExporter
from fl_core.registry import look_up

EXPORTERS: Mapping[str, Exporter] = {
    "onnx": OnnxExporter(),
}


def build_exporter(name: str) -> Exporter:
    """The exporter of a format.

    Raises:
        ConfigError: there is no such format; the message names the nearest one.
    """
    return look_up("export.formats", name, EXPORTERS)
