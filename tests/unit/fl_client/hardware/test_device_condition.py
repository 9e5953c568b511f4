"""How warm and how full a device is leaves it only where its owner says so, and then a server reads it."""

from __future__ import annotations

from pathlib import Path

from fl_client.home import open_home
from fl_client.trainer.daemon import open_trainer
from fl_client.trainer.guard import GuardedTrainer
from fl_client.trainer.in_process import InProcessTrainer
from support.boards import info_of, make_home

ON_BATTERY = {"battery_share": 0.4, "charging": 0.0, "temperature_c": 61.0}


def told(folder: Path, **fields: object) -> dict[str, float]:
    """What a server hears of a device with that device.yaml."""
    home = open_home(make_home(folder, **fields))
    opened = open_trainer(home)
    try:
        guarded = GuardedTrainer(opened.trainer, home, lambda: ON_BATTERY)
        return dict(info_of(InProcessTrainer(guarded)).device)
    finally:
        opened.ledger.close()


def test_a_device_says_nothing_of_itself_unless_its_owner_shares_it(tmp_path: Path) -> None:
    assert told(tmp_path / "quiet") == {}
    assert told(tmp_path / "open", share_device_state=True) == ON_BATTERY
