"""The way of a round's slowest message is found among the records of all devices, and its parts sum to the round."""

from __future__ import annotations

import pytest
from shared.round_phases import PHASES, read_stamps, table_of, ways

EVENTS = [
    {"kind": "round_started", "round": 1, "time": 100.0},
    {"kind": "client_finished", "round": 1, "time": 102.0, "client_id": "quick"},
    {"kind": "client_finished", "round": 1, "time": 104.0, "client_id": "slow"},
    {"kind": "round_finished", "round": 1, "time": 104.5},
    {"kind": "round_started", "round": 2, "time": 105.0},
]
RECORDS = [
    (100.5, 90.0, "[RUN 7, ROUND 1]"),
    (100.6, 90.0, "Receiving: train message (ID: a)"),
    (101.0, 100.8, "Start `flwr-clientapp` process"),
    (101.3, 100.8, "[flwr-clientapp] Start FAB installation."),
    (102.5, 80.0, "run overhead, round 1: task b answered with 512 bytes"),
    (103.0, 90.0, "[RUN 7, ROUND 1]"),
    (103.0, 90.0, "Sending: train message (ID: c)"),
    (103.4, 90.0, "Sent successfully"),
]


def test_the_parts_of_the_slowest_way_sum_to_the_round(tmp_path):
    path = tmp_path / "stamps"
    path.write_text("".join(f"{at}\t/srv/slow\t{born}\t{words}\n" for at, born, words in RECORDS))
    found = ways(EVENTS, read_stamps(path), {"slow": [50.0, 101.5], "quick": []})
    assert found == [(100.0, 100.6, 100.8, 101.0, 101.3, 101.5, 102.5, 103.0, 103.4, 104.0, 104.5, 105.0)]
    rows = {row[0]: row[1] for row in table_of(found).rows}
    assert rows["the trainer works"] == "1.00"
    assert rows["sum of the medians"] == rows["from one round to the next"] == "5.00"
    assert sum(float(rows[name]) for name in PHASES) == pytest.approx(5.0)


def test_a_round_with_a_record_missing_is_left_out(tmp_path):
    path = tmp_path / "stamps"
    path.write_text("".join(f"{at}\t/srv/slow\t{born}\t{words}\n" for at, born, words in RECORDS[:-1]))
    assert ways(EVENTS, read_stamps(path), {"slow": [101.5]}) == []
