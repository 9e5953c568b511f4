"""Two private runs on real devices, one of which lost its ledger between them: the others go on, and it is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import toy

from fl_core.config import Config, load_config, to_yaml
from fl_core.privacy.ledger import Ledger
from fl_core.run_folder import run_is_locked
from fl_core.runlog import Event, read_events
from fl_server.deploy.operations import want_run
from support import fleet
from support.fleet import LiveServer, eventually
from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
CLIENTS = ("client-0", "client-1", "client-2")
LOSER = CLIENTS[0]
DATA = {"factory": "toy:data"}
LIMIT_S = 300


def private(folder: Path, name: str, **sections: Any) -> Config:
    run = {"name": name, "rounds": 2}
    config = toy.config(folder, run=run, privacy={"epsilon": 2.0}, round={"min_clients": 3}, **sections)
    (folder / f"{name}.yaml").write_text(to_yaml(config))
    return load_config(folder / f"{name}.yaml")


def finished(server: LiveServer, config: Config) -> list[Event]:
    run_dir = want_run(server.home, config, overwrite=False)

    def over() -> bool:
        return (run_dir / "report.html").is_file() and not run_is_locked(run_dir)

    eventually(over, LIMIT_S, f"the end of {config.run.name}")
    return list(read_events(run_dir))


def by_client(events: list[Event], kind: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for event in events:
        if event["kind"] == kind:
            found.setdefault(event["client_id"], []).append(event.get("epsilon") or event.get("reason"))
    return found


def test_a_second_run_is_trained_and_a_device_whose_ledger_is_gone_is_left_out_of_it_by_name(tmp_path):
    home = fleet.new_home(tmp_path / "server")
    with fleet.server_up(home) as server:
        folders = {client: tmp_path / client for client in CLIENTS}
        with fleet.devices(server, folders, {"data": DATA}):
            first = by_client(finished(server, private(tmp_path, "first")), "client_finished")
            assert all(told[-1] <= 2.0 for told in first.values())
            for part in folders[LOSER].glob("ledger.sqlite*"):
                os.unlink(part)
            events = finished(server, private(tmp_path, "second"))
            second, refused = by_client(events, "client_finished"), by_client(events, "client_refused")
            assert sorted(second) == [*CLIENTS[1:]]
            assert all(told[0] > first[client][-1] and told[-1] > 2.0 for client, told in second.items())
            assert sorted(refused) == [LOSER]
            assert all("ledger.sqlite: expected the file that was opened, got no file" in r for r in refused[LOSER])
            assert not any(str(tmp_path) in reason for reason in refused[LOSER])
    ledger = Ledger(folders[CLIENTS[1]] / "ledger.sqlite")
    assert ledger.spent(CLIENTS[1], 1e-5) == pytest.approx(second[CLIENTS[1]][-1])
    ledger.close()


def test_a_run_that_every_device_refuses_ends_at_once_with_the_reason(tmp_path):
    home = fleet.new_home(tmp_path / "server")
    folders = {client: tmp_path / client for client in CLIENTS}
    with fleet.server_up(home) as server, fleet.devices(server, folders, {"data": DATA}):
        config = private(tmp_path, "wide", clients={"batch_size": 16})
        (tmp_path / "wide.yaml").write_text(to_yaml(config).replace("clip_norm: 1.0", "clip_norm: 3.0"))
        ended = fleet.command(home, "run", str(tmp_path / "wide.yaml"), "--server", str(home.folder), timeout=LIMIT_S)
    assert ended.returncode == 6, ended.stderr
    assert "clip_norm: this device allows at most 1.0, the plan asks for 3.0" in ended.stderr
    assert "client-0, client-1, client-2" in ended.stderr
    assert "Traceback" not in ended.stderr
