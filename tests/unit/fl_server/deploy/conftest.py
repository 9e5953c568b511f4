"""A server's folder for tests that start no process."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from fl_core.config import to_yaml
from fl_core.files import write_atomic
from fl_server.deploy.home import ServerHome, Settings


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """One where the toy federation is wanted."""
    home = ServerHome(tmp_path, Settings())
    home.save()
    write_atomic(home.runs / "toy" / "config.yaml", to_yaml(toy.config(tmp_path)).encode())
    home.want("toy")
    return home
