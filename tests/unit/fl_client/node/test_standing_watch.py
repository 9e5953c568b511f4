"""What the server says of a board is logged once for each change, and kept for as long as it holds."""

from __future__ import annotations

import logging

from fl_client.node import standing
from fl_client.node.standing import SERVER_ASKED_EVERY_S, StandingWatch
from fl_client.standing import Standing, keep_standing, kept_standing
from fl_core.errors import ServerAwayError

TWICE = "two devices use the identity board-7: expected one"
WAITS = "board-7: waits for approval"


def test_each_change_is_said_once_and_a_server_that_is_away_changes_nothing(tmp_path, monkeypatch, caplog):
    answers = [
        Standing(),
        Standing(WAITS),
        Standing(None, TWICE),
        ServerAwayError("no"),
        ValueError("damaged"),
        Standing(None, TWICE),
        Standing(),
    ]
    kept = []

    def ask(root):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(standing, "standing_of", ask)
    caplog.set_level(logging.INFO)
    watch = StandingWatch(tmp_path)
    for minute in range(7):
        watch.step(minute * SERVER_ASKED_EVERY_S)
        kept.append(kept_standing(tmp_path))
    twice = Standing(None, TWICE)
    assert kept == [Standing(), Standing(WAITS), twice, twice, twice, twice, Standing()]
    assert caplog.messages == [WAITS, "the server lets this device take part", TWICE]


def test_a_new_start_knows_nothing_of_what_an_earlier_one_found_and_a_damaged_file_says_nothing(tmp_path):
    keep_standing(tmp_path, Standing(WAITS, TWICE))
    assert list(kept_standing(tmp_path).lines()) == [f"takes no part: {WAITS}", TWICE]
    (tmp_path / "run" / "server.json").write_text("[1]")
    assert kept_standing(tmp_path) == Standing()
    keep_standing(tmp_path, Standing(WAITS))
    StandingWatch(tmp_path)
    assert kept_standing(tmp_path) == Standing()
