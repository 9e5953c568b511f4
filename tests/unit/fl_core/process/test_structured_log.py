"""What a line of a log holds: each field in its place, in both formats, and nothing of another thread's task."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from fl_core.process.structured_log import FORMAT_VARIABLE, JsonFormatter, TextFormatter, logged_with
from fl_server.app import log_event
from support.boards import ENVIRONMENT

LOGGER = logging.getLogger("fl_core.test_of_logs")


class Lines(logging.Handler):
    """Keeps what it is told as lines of one format."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += self.format(record).splitlines()


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def lines(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    handler = Lines(request.param())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.parametrize("lines", [JsonFormatter], indirect=True)
def test_a_line_of_json_has_time_level_part_words_and_what_is_known(lines: list[str]) -> None:
    with logged_with(run="night", round=3), logged_with(client_id="person-01", round=None):
        LOGGER.warning("late by %d s,\nand %s", 5, "more")
    LOGGER.info("over")
    first, second = map(json.loads, lines)
    for line in (first, second):
        assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert first == {
        "level": "WARNING", "logger": LOGGER.name, "message": "late by 5 s,\nand more",
        "run": "night", "round": 3, "client_id": "person-01",
    }  # fmt: skip
    assert second.keys() == {"level", "logger", "message"}


@pytest.mark.parametrize("lines", [JsonFormatter], indirect=True)
def test_a_traceback_is_part_of_its_line(lines: list[str]) -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        LOGGER.exception("a task failed")
    (line,) = map(json.loads, lines)
    assert line["message"] == "a task failed"
    assert "in two" in line["traceback"]


@pytest.mark.parametrize("lines", [TextFormatter], indirect=True)
def test_a_line_for_people_says_round_and_client_at_its_end(lines: list[str]) -> None:
    with logged_with(round=3, client_id="person\n01"):
        LOGGER.warning("late")
    LOGGER.warning("over")
    assert lines[0].endswith("WARNING late [round 3, client person 01]")
    assert lines[1].endswith("WARNING over")


def test_threads_do_not_mix(lines: list[str]) -> None:
    both = threading.Barrier(2)

    def work(client: str) -> None:
        with logged_with(client_id=client):
            both.wait(10)
            LOGGER.info("of %s", client)
            both.wait(10)

    with logged_with(client_id="outside"):
        threads = [threading.Thread(target=work, args=(client,)) for client in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(lines) == 2
    for line in lines:
        client = "one" if "of one" in line else "two"
        field = json.loads(line)["client_id"] if line.startswith("{") else line.partition("[client ")[2].rstrip("]")
        assert field == client


@pytest.mark.parametrize("lines", [JsonFormatter], indirect=True)
def test_a_round_and_whom_it_left_out_are_in_the_log_of_a_run(lines: list[str]) -> None:
    common = {"round": 4, "visibility": "public"}
    log_event({**common, "kind": "client_rejected", "client_id": "person-02", "reason": "expected finite, got nan"})
    log_event({**common, "kind": "client_finished", "client_id": "person-01", "uplink_bytes": 9})
    log_event({**common, "kind": "round_finished", "accepted": 2, "rejected": 1, "seconds": 1.25, "evaluation": None})
    rejected, finished = map(json.loads, lines)
    assert (rejected["level"], rejected["round"], rejected["client_id"]) == ("WARNING", 4, "person-02")
    assert "expected finite, got nan" in rejected["message"]
    assert (finished["level"], finished["round"]) == ("INFO", 4)
    assert "client_id" not in finished


def logged(code: str, format: str) -> subprocess.CompletedProcess[str]:
    program = f"from fl_core.process.structured_log import start_logging, say_error\nimport logging\n{code}"
    environment = {**ENVIRONMENT, FORMAT_VARIABLE: format}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def test_a_process_logs_as_it_was_told_once_and_leaves_flower_alone() -> None:
    code = (
        "import flwr.supercore.logger as flower\n"
        "flower.console_handler.stream = __import__('io').StringIO()\n"
        "start_logging()\n"
        "logging.getLogger('fl_server.x').info('ours')\n"
        "flower.log(logging.WARNING, 'theirs')\n"
        "say_error('the end')\n"
    )
    told = [json.loads(line) for line in logged(code, "json").stderr.splitlines()]
    assert [(line["level"], line["message"]) for line in told] == [("INFO", "ours"), ("ERROR", "the end")]
    words = logged(code, "text").stderr.splitlines()
    assert [line.split()[-1] for line in words] == ["ours", "end"]
    assert words[1] == "error: the end"


def test_an_unknown_format_is_refused_by_name() -> None:
    assert f"{FORMAT_VARIABLE}: expected one of text, json, got 'xml'" in logged("start_logging()", "xml").stderr
