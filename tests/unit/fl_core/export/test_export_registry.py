"""A format of a config becomes its exporter, with or without arguments."""

from __future__ import annotations

import pytest

from fl_core.errors import ConfigError
from fl_core.export.registry import EXPORTERS, FormatSection, build_exporter, format_name


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_a_format_is_built_from_its_name_or_from_name_and_args(name: str) -> None:
    for format in (name, FormatSection(name), FormatSection(name, {})):
        assert format_name(format) == build_exporter(format).name == name


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_an_argument_that_an_exporter_does_not_have_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^export\.formats\.{name}\.args: "):
        build_exporter(FormatSection(name, {"surprise": 1}))


def test_an_unknown_format_with_args_names_the_nearest_as_its_name_alone_does() -> None:
    for format in ("onxx", FormatSection("onxx", {"bits": 4})):
        with pytest.raises(ConfigError, match=r"export\.formats: expected one of .*; did you mean 'onnx'"):
            build_exporter(format)
