"""A process that shows its own files in /proc to nobody but root still belongs to its home, and weighs something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fl_core.process import processes
from fl_core.process.processes import HOME_VARIABLE, SPEC_VARIABLE, end, processes_of, pss_bytes

FAMILY = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A parent and its child of a home; the child leads a session of its own and hides what Flower's SuperExec does."""
    home = {HOME_VARIABLE: str(tmp_path), SPEC_VARIABLE: "node"}
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | home
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        for method in ("read_bytes", "read_text"):
            monkeypatch.setattr(Path, method, refusing(getattr(Path, method), child))
        yield parent.pid, child
        end([child, parent.pid])


def refusing(read, pid):
    def refused(path: Path, *given, **named):
        if path in (Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/smaps_rollup")):
            raise PermissionError(13, "no", str(path))
        return read(path, *given, **named)

    return refused


def test_it_is_found_by_its_parent(tmp_path, hidden):
    parent, child = hidden
    assert {found.pid: found.spec_name for found in processes_of(tmp_path)} == {parent: "node", child: "node"}


def test_it_is_found_by_its_group_when_its_parent_is_gone(tmp_path, hidden):
    parent, child = hidden
    end([parent])
    assert [found.pid for found in processes_of(tmp_path, {child: "node"})] == [child]
    assert processes_of(tmp_path) == []


def test_its_rss_stands_for_its_pss(hidden, monkeypatch):
    _, child = hidden
    weighed = pss_bytes([child])
    monkeypatch.undo()
    assert weighed >= pss_bytes([child]) > 0
    assert weighed < 50e6


@pytest.mark.usefixtures("hidden")
def test_a_process_that_belongs_to_nobody_is_not_found(tmp_path, monkeypatch):
    assert processes_of(tmp_path / "another") == []
    monkeypatch.setattr(processes, "environment_of", lambda pid: {})
    assert processes_of(tmp_path) == []
