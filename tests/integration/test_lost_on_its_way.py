"""A task that the SuperLink handed out and that no device has: the round asks again, and has every update in time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from inject.harm import Watch
from shared.protocol_node import ROW, ProtocolNode, home_of
from shared.server_scene import python_path, scene, wait_for

from fl_client.node.identity import enrol
from fl_core.config import load_config
from fl_server.deploy.operations import stop_run, want_run
from fl_server.gateway.operate import create_token
from support.gateway import needs_nginx

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real processes"), needs_nginx]
DEADLINE_S = 120.0
CONFIG = {
    "run": {"name": "lost", "rounds": 3},
    "data": {"factory": "round_overhead:data"},
    "model": {"factory": "round_overhead:model"},
    "clients": {"local_steps": 1},
    "export": {"formats": []},
    "round": {"deadline_s": DEADLINE_S, "quorum": 1.0, "min_clients": 2},
}


class Forgetful(ProtocolNode):
    """A device that fetches its second task and then knows nothing of it."""

    forgot = 0

    def _answer(self, client: Any, node: Any, run_id: int, tree: Any) -> None:
        if self.forgot == 0 and self._row["tasks"] == 1:
            self.forgot += 1
        else:
            super()._answer(client, node, run_id, tree)


def test_a_task_that_is_lost_on_its_way_is_sent_again_within_its_round(tmp_path: Path) -> None:
    python_path()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    stop = threading.Event()
    with scene(tmp_path, 1, 1, lambda line: None) as here:
        home = home_of(tmp_path, 1)
        enrol(home, here.live.url, create_token(here.home.folder, client_id=home.name, auto_approve=True))
        forgetful = Forgetful(home, np.zeros(1, ROW)[0], stop)
        thread = threading.Thread(target=forgetful.run, daemon=True)
        thread.start()
        try:
            watch = Watch(want_run(here.home, load_config(config, ()), overwrite=False))
            wait_for(lambda: watch.of_kind("run_finished"), 300, "the end of the run")
        finally:
            stop_run(here.home)
            stop.set()
            thread.join(30)
    rounds = watch.of_kind("round_finished")
    assert forgetful.forgot == 1
    assert [event["accepted"] for event in rounds] == [2, 2, 2]
    assert max(event["seconds"] for event in rounds) < DEADLINE_S / 2
