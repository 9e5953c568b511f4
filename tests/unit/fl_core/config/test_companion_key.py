"""``run.companion`` was called ``run.beside``: configs and overrides from then load, and one line says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fl_core.config import load_config, to_yaml
from fl_core.errors import ConfigError

REST = "data: {name: smartwatch}\nmodel: {name: m}\n"


def write(path: Path, run: str, more: str = "") -> Path:
    path.write_text(f"run: {run}\n{REST}{more}")
    return path


def test_a_companion_is_named_from_the_files_own_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(write(tmp_path / "a.yaml", "{name: a, companion: b.yaml}"))
    assert config.run.companion == str(tmp_path / "b.yaml")
    assert caplog.messages == []


def test_the_old_name_means_the_same_and_one_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.yaml", "{name: a, beside: b.yaml}")
    configs = [load_config(path) for _ in range(2)]
    assert [config.run.companion for config in configs] == [str(tmp_path / "b.yaml")] * 2
    assert caplog.messages == [f"{path}: run.beside is called run.companion now"]
    assert caplog.records[0].levelno == logging.WARNING


def test_an_old_base_file_is_overridden_by_the_new_name(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "{name: a, beside: b.yaml}")
    config = load_config(write(tmp_path / "a.yaml", "{companion: null}", "extends: base.yaml\n"))
    assert config.run.companion is None


@pytest.mark.parametrize("override", ["run.beside=null", "run={beside: null}"])
def test_an_old_override_replaces_the_file(tmp_path: Path, override: str) -> None:
    path = write(tmp_path / "a.yaml", "{name: a, companion: b.yaml}")
    assert load_config(path, [override]).run.companion is None


def test_a_resolved_config_of_before_says_nothing_where_there_was_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(write(tmp_path / "a.yaml", "{name: a}"))
    old = tmp_path / "old.yaml"
    old.write_text(to_yaml(config).replace("companion: null", "beside: null"))
    assert load_config(old) == config
    assert caplog.messages == []


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got both"):
        load_config(write(tmp_path / "a.yaml", "{name: a, beside: b.yaml, companion: c.yaml}"))
