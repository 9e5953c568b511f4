"""The ClientApp as a board runs it: own policy, own ledger, secret noise; driven by the same server as a simulation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import toy
from flwr.app import Context, Message, RecordDict

from fl_client.app import app, open_trainer
from fl_core.config import to_yaml
from fl_core.errors import DataError, PolicyError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.runlog import RunLog, read_events
from fl_server.rounds import run_rounds
from fl_server.setup import Setup
from simulation.grid import InProcessGrid, nodes_of

BOARD = "client-0"
POLICY = DevicePolicy(
    epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0
)  # fmt: skip


def answer(home: Path, config: Path, message: Message, context: Context) -> Message:
    context.node_config["home"] = str(home)
    return app(message, Context(1, context.node_id, context.node_config, RecordDict(), {"config": str(config)}))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = toy.config(tmp_path / "runs", privacy={"epsilon": 8.0}, run={"rounds": 2})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    return path


def test_a_board_trains_with_secret_noise_and_says_that_it_is_real(tmp_path, config_file):
    home = tmp_path / "board"
    home.mkdir()
    POLICY.save(home / "policy.json")
    config = toy.config(tmp_path / "runs", privacy={"epsilon": 8.0}, run={"rounds": 2})
    run_dir = tmp_path / "server"
    log = RunLog(run_dir, config.run.name)
    grid = InProcessGrid(nodes_of([BOARD]), partial(answer, home, config_file))
    run_rounds(grid, Setup.of(config, toy.data()), run_dir, log)
    log.close()
    events = list(read_events(run_dir))
    assert [event["client_id"] for event in events if event["kind"] == "client_finished"] == [BOARD, BOARD]
    started = next(event for event in events if event["kind"] == "run_started")
    assert started["privacy"]["simulated"] is False
    assert not any(event["visibility"] == "simulation" for event in events)
    open_trainer.cache_clear()
    assert 0 < Ledger(home / "ledger.sqlite").spent(BOARD, 1e-5) <= 8.0


def test_a_board_without_a_policy_trains_nothing(tmp_path, config_file):
    with pytest.raises(PolicyError, match=r"policy\.json"):
        open_trainer(str(tmp_path / "nowhere"), BOARD, str(config_file), "")


def test_a_board_whose_data_is_not_there_says_which_there_are(tmp_path, config_file):
    POLICY.save(tmp_path / "policy.json")
    with pytest.raises(DataError, match=r"client-9.*client-0"):
        open_trainer(str(tmp_path), "client-9", str(config_file), "")
