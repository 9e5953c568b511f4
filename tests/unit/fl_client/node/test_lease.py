"""A killed SuperNode's lease is given back by its successor on the same board, and by nobody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import httpx
import pytest

from fl_client.node.lease import NodeLease
from fl_core.flower_private.supernode import giving_back

HOLDS = """
import sys
from pathlib import Path
from fl_client.node.lease import NodeLease

NodeLease(Path(sys.argv[1])).take(2**64 - 5)
print("taken", flush=True)
sys.stdin.read()
"""
NODE_ID = 2**64 - 5


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lease in ``tmp_path``."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "lease.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_the_place_of_a_killed_supernode_is_left_behind(tmp_path, holder):
    lease = NodeLease(tmp_path / "lease.json")
    assert lease.left_behind() is None, "its holder is alive"
    kill(holder)
    assert lease.left_behind() == NODE_ID
    lease.take(7)
    assert lease.left_behind() is None


def test_copied_files_take_no_place_away(tmp_path, holder):
    kill(holder)
    original = NodeLease(tmp_path / "lease.json")
    assert original.left_behind() == NODE_ID
    beside = NodeLease(shutil.copytree(tmp_path, tmp_path.with_name("copy of the folder")) / "lease.json")
    assert beside.left_behind() is None, "in another folder of this machine"
    fields = json.loads((tmp_path / "lease.json").read_text())
    fields["place"]["boot_id"] = "of another machine, or of this one before its last boot"
    (tmp_path / "lease.json").write_text(json.dumps(fields))
    assert original.left_behind() is None


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"node_id": 7}'])
def test_what_cannot_be_read_gives_nothing_back(tmp_path, content):
    if content is not None:
        (tmp_path / "lease.json").write_text(content)
    assert NodeLease(tmp_path / "lease.json").left_behind() is None


def test_a_place_that_cannot_be_written_keeps_no_supernode_from_starting(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    NodeLease(tmp_path / "file" / "lease.json").take(7)
    assert "cannot be written" in caplog.text


class FleetApi:
    """A SuperLink that lets nobody in whose node is held."""

    held = True
    error: httpx.HTTPError | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def ActivateNode(self, request):  # noqa: N802
        self.calls.append("activate")
        if self.held:
            raise refused(412)
        return SimpleNamespace(node_id=NODE_ID)

    def DeactivateNode(self, request):  # noqa: N802
        self.calls.append(f"deactivate {request.node_id}")
        if self.error is not None:
            raise self.error
        self.held = False


def refused(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=httpx.Request("POST", "http://x"), response=httpx.Response(status))


def test_a_successor_is_let_in_at_once(tmp_path, holder):
    kill(holder)
    lease = NodeLease(tmp_path / "lease.json")
    client = giving_back(FleetApi, lease)()
    assert client.ActivateNode(None).node_id == NODE_ID
    assert client.calls == [f"deactivate {NODE_ID}", "activate"]
    assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()


def test_a_second_supernode_beside_a_living_one_is_kept_out(tmp_path, holder):
    client = giving_back(FleetApi, NodeLease(tmp_path / "lease.json"))()
    with pytest.raises(httpx.HTTPStatusError):
        client.ActivateNode(None)
    assert client.calls == ["activate"]
    assert json.loads((tmp_path / "lease.json").read_text())["pid"] == holder.pid


def test_a_place_that_the_server_does_not_know_is_asked_for_all_the_same(tmp_path, holder):
    kill(holder)
    client = giving_back(FleetApi, NodeLease(tmp_path / "lease.json"))()
    client.error, client.held = refused(404), False
    assert client.ActivateNode(None).node_id == NODE_ID


def test_a_server_that_is_away_takes_no_place_away(tmp_path, holder):
    kill(holder)
    lease = NodeLease(tmp_path / "lease.json")
    client = giving_back(FleetApi, lease)()
    client.error = httpx.ConnectError("no")
    with pytest.raises(httpx.ConnectError):
        client.ActivateNode(None)
    assert lease.left_behind() == NODE_ID, "the next attempt gives it back"
