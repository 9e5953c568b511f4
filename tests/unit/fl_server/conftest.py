"""A server's folder for tests that start no process."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from fl_core.config import to_yaml
from fl_core.runlog import write_atomic
from fl_server.deploy.home import Home, Settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One where the toy federation is wanted."""
    home = Home(tmp_path, Settings())
    home.save()
    write_atomic(home.runs / "toy" / "config.yaml", to_yaml(toy.config(tmp_path)).encode())
    home.want("toy")
    return home
