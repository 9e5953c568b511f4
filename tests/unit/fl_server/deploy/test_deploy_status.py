"""What the server says of a run is what its events say, in tables and in Prometheus' own format."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from typer.testing import CliRunner

from fl_core.errors import NoUpdateError
from fl_core.identity import twice_in_words
from fl_core.runlog import RunLog
from fl_server.cli import app
from fl_server.deploy.health import Health, serve_health
from fl_server.deploy.home import Settings
from fl_server.deploy.operations import make_home
from fl_server.deploy.status import describe_server, status_tables
from fl_server.gateway.authority import init_authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.doubles import ALIVE_S, Doubles
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.operate import identities_used_twice
from fl_server.watch.failure import Failure
from fl_server.watch.status import status_of
from support.synthetic_run import fleet_log, round_of, write_run


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    log = fleet_log(tmp_path)
    yield log
    log.close()


def test_an_idle_server_tells_how_many_devices_it_has_and_how_many_wait(tmp_path):
    home = make_home(tmp_path / "server", Settings())
    assert describe_server(home)["devices"] == {"pending": 0, "approved": 0, "revoked": 0}
    assert not GatewayFiles(home.folder).devices.exists()  # whoever asks need not be who runs the server
    with DeviceRegistry(GatewayFiles(home.folder).devices) as registry:
        for name, approved in {"a": True, "b": True, "c": False, "d": True}.items():
            registry.add_token(name.encode(), 100.0, name, approved)
            registry.use_token(name.encode(), f"tls-{name}", f"key-{name}", 0.0)
        registry.revoke("d")
    told = CliRunner().invoke(app, ["status", str(home.folder), "--json"])
    assert json.loads(told.stdout)["devices"] == {"pending": 1, "approved": 2, "revoked": 1}
    lines = as_lines(describe_server(home))
    for label, count in {"may take part": 2, "wait for approval": 1, "revoked": 1}.items():
        assert any(label in line and str(count) in line for line in lines)


def test_a_status_without_a_registry_that_can_be_read_tells_the_rest(tmp_path):
    home = make_home(tmp_path / "server", Settings())
    write_run(home.runs / "toy")
    GatewayFiles(home.folder).devices.mkdir()
    described = describe_server(home)
    assert (described["devices"], described["run"]["finished"]) == (None, True)
    assert any("may take part" in line for line in as_lines(described))


def test_a_run_that_failed_for_good_is_neither_under_way_nor_stopped(tmp_path):
    home = make_home(tmp_path / "server", Settings())
    run_dir = write_run(home.runs / "demo", finished=False)
    home.want("demo")
    assert any("run demo: under way" in line for line in as_lines(describe_server(home)))
    Failure.at(run_dir).write(NoUpdateError("run demo: no update was accepted"))
    lines = as_lines(describe_server(home))
    assert any("run demo: failed" in line for line in lines)
    assert any("does not go on because" in line and "no update was accepted" in line for line in lines)


def as_lines(described: Mapping[str, Any]) -> list[str]:
    console = Console(width=120, file=StringIO())
    with console.capture() as said:
        console.print(*status_tables(described))
    return said.get().splitlines()


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    ("ready", "trouble", "devices_trouble", "code"),
    [
        (True, None, None, 200),
        (False, None, None, 503),
        (True, "no clients", None, 503),
        (True, None, "database or disk is full", 503),
    ],
)
def test_healthz_is_well_only_where_everything_is(ready, trouble, devices_trouble, code):
    health = Health(ready, {"superlink": {"ready": ready, "restarts": 3}}, None, trouble, devices_trouble)
    with serve_health(lambda: health, 0) as port:
        status, body = answer(port, "/healthz")
        assert status == code
        told = json.loads(body)
        assert (told["trouble"], told["devices_trouble"]) == (trouble, devices_trouble)
        assert answer(port, "/else")[0] == 404


def test_an_identity_that_two_boards_use_is_unwell_while_both_are_alive_and_told_until_it_is_enrolled_anew(home):
    init_authority(home.folder, [], datetime.now(timezone.utc))
    files = GatewayFiles(home.folder)
    with DeviceRegistry(files.devices) as registry:
        for name in ("board-7", "revoked"):
            registry.add_token(name.encode(), 100.0, name, True)
            registry.use_token(name.encode(), "tls", f"key of {name}", 0.0)
            Doubles(files.doubles).note(name, f"key of {name}", 1000.0)
        registry.revoke("revoked")
        doubles = identities_used_twice(home.folder)
        for now_s, code in ((1000.0, 503), (1000.0 + 2 * ALIVE_S, 200)):
            health = Health(True, {}, None, doubles=doubles, now_s=now_s)
            with serve_health(lambda health=health: health, 0) as port:
                status, body = answer(port, "/healthz")
                assert "stonecrop_identities_used_twice 1.0" in answer(port, "/metrics")[1]
            assert status == code
            assert json.loads(body)["identities_used_twice"] == {"board-7": twice_in_words("board-7")}
        text = " ".join(" ".join(as_lines(describe_server(home))).replace("│", " ").split())
        assert "board-7 is used twice" in text
        assert "two devices use the identity board-7" in text
        registry.add_token(b"anew", 3000.0, "board-7", True)
        registry.use_token(b"anew", "tls", "another key", 2000.0)
    assert describe_server(home)["identities_used_twice"] == {}


def test_metrics_carry_the_figures_of_the_events(tmp_path, log):
    round_of(log, 1, 0.5)
    round_of(log, 2, 0.8)
    health = Health(True, {"superlink": {"ready": True, "restarts": 3}}, status_of(tmp_path))
    with serve_health(lambda: health, 0) as port:
        code, text = answer(port, "/metrics")
    assert code == 200
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["stonecrop_rounds_done", "fleet"] == 2
    assert found["stonecrop_epsilon_max", "fleet"] == 0.8
    assert found["stonecrop_uplink_bytes_total", "fleet"] == 200
    assert found["stonecrop_left_out_total", "fleet", "rejected"] == 2
    assert found["stonecrop_process_restarts_total", "superlink"] == 3
    assert found["stonecrop_client_last_seen_timestamp_seconds", "a", "fleet"] > 1e9
