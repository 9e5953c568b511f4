"""The ten things that a plug-in author meets say how they are used, and what they say is run."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

EXPLAINED = (
    "strategies.base.Strategy",
    "fl_core.tasks.base.Task",
    "fl_core.export.base.Exporter",
    "fl_server.selection.base.Selection",
    "simulation.attacks.base.Attack",
    "fl_core.data.federation.Federation",
    "fl_core.data.federation.Examples",
    "fl_core.quant.spec.QuantSpec",
    "fl_core.quant.prepare.prepare_qat",
    "fl_core.quant.lowered.Lowered",
)


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_example_in_a_docstring_prints_what_it_says(name: str) -> None:
    module, _, own = name.rpartition(".")
    text = inspect.getdoc(getattr(importlib.import_module(module), own)) or ""
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert example.examples, "expected an example that begins with >>>"
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert said == []
