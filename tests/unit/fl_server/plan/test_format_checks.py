"""A format that cannot be built is found before anything starts, whichever way it is stated."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import ConfigError
from fl_server.plan.validate import load_checked

WRONG_KEY = "run: {name: q}\ndata: {name: smartwatch}\nmodel: {name: imu_cnn}\nclients: {batch: 8}\n"


@pytest.mark.parametrize(
    ("format", "says"),
    [
        ("onxx", "export.formats: expected one of onnx, got 'onxx'"),
        ("{name: onxx}", "export.formats: expected one of onnx, got 'onxx'"),
        ("{name: onnx, args: {surprise: 1}}", "export.formats.onnx.args: "),
    ],
)
def test_a_wrong_format_is_named_beside_every_other_problem(tmp_path: Path, format: str, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{WRONG_KEY}export: {{formats: [{format}]}}\n")
    with pytest.raises(ConfigError) as caught:
        load_checked(path)
    assert says in str(caught.value)
    assert "clients.batch: unknown key" in str(caught.value)
