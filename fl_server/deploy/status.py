"""The status of a server as plain values and as tables: processes, devices, the newest run, who was left out."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from fl_core.identity import twice_in_words
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import is_up
from fl_server.gateway.devices import DeviceStatus
from fl_server.gateway.operate import count_devices, identities_used_twice
from fl_server.gateway.waiting import devices_waiting
from fl_server.watch.failure import Failure
from fl_server.watch.status import status_of
from fl_server.watch.words import ABSENT, NOT_PRIVATE, as_bytes, as_seconds

ENDPOINT_TIMEOUT_S = 5.0
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def describe_server(home: ServerHome) -> dict[str, Any]:
    """{up, processes, devices, devices_trouble, devices_waiting, identities_used_twice, trouble, wanted, run, failure},
    as of now.

    Figures are from the endpoint, from the registry of devices and from the newest run's events.

    Raises:
        IdentityError: the folder has no authority.
    """
    health = _ask_endpoint(home) if is_up(home) else {}
    name = home.wanted() or home.newest()
    run_dir = home.runs / name if name else None
    return {
        "up": is_up(home),
        "processes": health.get("processes", {}),
        "devices": _count_devices(home),
        "devices_trouble": health.get("devices_trouble"),
        "devices_waiting": devices_waiting(home.folder, time.time()),
        "identities_used_twice": _used_twice(home),
        "trouble": health.get("trouble"),
        "wanted": home.wanted(),
        "run": status_of(run_dir).to_plain() if run_dir else None,
        "failure": Failure.at(run_dir).read() if run_dir else None,
    }


def status_tables(described: Mapping[str, Any]) -> Iterator[Table]:
    """The tables that people read."""
    server = Table(title="server" if described["up"] else "server: down", title_justify="left")
    for column in ("process", "ready", "restarts"):
        server.add_column(column)
    for name, process in described["processes"].items():
        server.add_row(
            name,
            "yes" if process["ready"] else ": ".join(filter(None, ("no", process["said"]))),
            str(process["restarts"]),
        )
    if described["processes"] or not described["up"]:
        yield server
    yield _devices_table(described)
    run = described["run"]
    if run is None:
        return
    yield _run_table(run, described)
    yield _clients_table(run)
    if run["reasons"]:
        yield _reasons_table(run)


def _count_devices(home: ServerHome) -> dict[DeviceStatus, int] | None:
    try:
        return count_devices(home.folder)
    except (OSError, sqlite3.Error):  # on a full disk the rest is told all the same
        return None


def _used_twice(home: ServerHome) -> dict[str, str]:
    try:
        return {double.client_id: twice_in_words(double.client_id) for double in identities_used_twice(home.folder)}
    except (OSError, sqlite3.Error):
        return {}


def _devices_table(described: Mapping[str, Any]) -> Table:
    table = Table(title="devices", title_justify="left", show_header=False)
    for status, label in (("approved", "may take part"), ("pending", "wait for approval"), ("revoked", "revoked")):
        table.add_row(label, ABSENT if described["devices"] is None else str(described["devices"][status]))
    if described["devices_trouble"]:
        table.add_row("cannot be let in because", described["devices_trouble"])
    for client_id, reason in described["devices_waiting"].items():
        table.add_row(f"{client_id} takes no part", reason)
    for client_id, words in described["identities_used_twice"].items():
        table.add_row(f"{client_id} is used twice", words)
    return table


def _run_table(run: Mapping[str, Any], described: Mapping[str, Any]) -> Table:
    failure = described["failure"] or {}
    state = "done" if run["finished"] else "under way" if described["wanted"] == run["name"] else "stopped"
    state = "failed" if failure.get("final") else state
    table = Table(title=f"run {run['name']}: {state}", title_justify="left", show_header=False)
    why = described["trouble"] or failure.get("reason")
    epsilon = ABSENT if run["epsilon_max"] is None else f"{run['epsilon_max']:.3f}"
    epsilon = NOT_PRIVATE if run["named_seeds"] else epsilon
    rows = {
        "rounds": f"{run['rounds_done']} of {run['rounds']}",
        "newest round": ABSENT if run["round_seconds"] is None else as_seconds(run["round_seconds"]),
        "epsilon, largest": epsilon,
        "bytes up / down": f"{as_bytes(run['uplink_bytes'])} / {as_bytes(run['downlink_bytes'])}",
        "interruptions": str(run["resumed"]),
        "does not go on because": why or ABSENT,
    }
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def _clients_table(run: Mapping[str, Any]) -> Table:
    table = Table(title="clients", title_justify="left")
    for column in ("client", "last seen", "round", "updates", "left out", "epsilon"):
        table.add_column(column)
    for client_id, client in sorted(run["clients"].items()):
        seen = client["last_seen"]
        table.add_row(
            client_id,
            ABSENT if seen is None else f"{as_seconds(max(0.0, time.time() - seen))} ago",
            ABSENT if client["last_round"] is None else str(client["last_round"]),
            str(client["updates"]),
            str(client["left_out"]),
            ABSENT if client["epsilon"] is None else f"{client['epsilon']:.3f}",
        )
    return table


def _reasons_table(run: Mapping[str, Any]) -> Table:
    table = Table(title="left out", title_justify="left")
    for column in ("round", "client", "what", "why"):
        table.add_column(column)
    for case in run["reasons"]:
        kind = case["kind"].removeprefix("client_")
        table.add_row(str(case["round"]), case["client_id"], kind, case["reason"])
    return table


def _ask_endpoint(home: ServerHome) -> dict[str, Any]:
    url = f"http://127.0.0.1:{home.settings.health_port}/healthz"
    try:
        with _WITHOUT_PROXY.open(url, timeout=ENDPOINT_TIMEOUT_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as answer:  # 503 carries the same figures
        return dict(json.load(answer))
    except OSError:
        return {}
