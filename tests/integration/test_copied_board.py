"""A copied card: two boards with one identity on one host. The original goes on, the copy ends, and all are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fl_core.errors import IdentityError
from fl_core.identity import twice_in_words
from fl_core.process.processes import end, processes_of
from fl_core.process.table import leaders_of
from fl_server.deploy.home import ServerHome
from fl_server.deploy.status import describe_server
from simulation.local_fleet import LocalFleet, federation_up, free_ports, processes_of_board
from support.boards import ENVIRONMENT, ROOT
from support.fleet import eventually
from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
PERSON = "board-7"
DEVICE = {"data": {"factory": "toy:data", "client": "client-2"}, "factories": ["toy:model"]}


def commands(*words: object) -> list[str]:
    return [sys.executable, "-m", "fl_client.cli", *map(str, words)]


@contextmanager
def copy_runs(home: Path) -> Iterator[subprocess.Popen[str]]:
    ports = zip(("--forwarder-port", "--supernode-port", "--metrics-port"), free_ports(3), strict=True)
    words = commands("run", "--home", home, *(word for pair in ports for word in pair))
    process = subprocess.Popen(words, env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        end(found.pid for found in processes_of(home, leaders_of(home / "run")))
        process.communicate()


def test_a_copy_beside_the_original_ends_nothing_of_it_and_is_told_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    fleet = LocalFleet(tmp_path / "fleet", ROOT / "configs" / "smartwatch.yaml", [PERSON], [], DEVICE)
    with federation_up(fleet, print) as live:
        original, copied = fleet.home(PERSON), tmp_path / "copy"
        before = {(found.pid, found.spec_name) for found in processes_of_board(fleet, PERSON)}
        assert {name for _, name in before} == {"trainer", "forwarder", "supernode"}
        shutil.copytree(original, copied, ignore=lambda _, names: [name for name in names if name.endswith(".sock")])
        with copy_runs(copied) as copy:
            _, said = copy.communicate(timeout=240)
            assert copy.returncode == IdentityError.exit_code, said
            words = twice_in_words(PERSON)
            assert said.splitlines()[-1] == f"error: supernode: {words}"
        assert {(found.pid, found.spec_name) for found in processes_of_board(fleet, PERSON)} >= before

        server = ServerHome.open(fleet.server)
        assert describe_server(server)["identities_used_twice"] == {PERSON: words}
        eventually(lambda: words in live.board_log(PERSON).read_text(), 90, "the original is told")
        shown = [
            subprocess.run(commands("status", "--home", home), env=ENVIRONMENT, capture_output=True, text=True).stdout
            for home in (original, copied)
        ]
        assert all(words in text for text in shown), shown
        url = f"http://127.0.0.1:{server.settings.health_port}/healthz"
        try:
            with urllib.request.urlopen(url) as answer:
                health = json.load(answer)
        except urllib.request.HTTPError as unwell:
            health = json.load(unwell)
        assert health["identities_used_twice"] == {PERSON: words}
        assert os.kill(live.boards[PERSON].pid, signal.SIG_DFL) is None
