"""The HTTP endpoint on loopback: ``/healthz`` for whoever restarts a sick server, ``/metrics`` for Prometheus.

All figures come from events.jsonl and from the supervisor at the moment they are asked for; nothing is counted twice
and nothing is lost with a process.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fl_core.identity import twice_in_words
from fl_server.gateway.doubles import ALIVE_S, Double
from fl_server.watch.status import RunStatus

Processes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Health:
    """What the endpoint says. ``run`` is None where no run is wanted."""

    ready: bool
    processes: Processes
    run: RunStatus | None
    trouble: str | None = None
    """Why the wanted run does not go on; None where it does."""
    devices_trouble: str | None = None
    """Why devices cannot be let in or out; None where they can."""
    devices_waiting: Mapping[str, str] = field(default_factory=dict)
    """Why devices take no part, by client_id; a server is well all the same."""
    doubles: Sequence[Double] = ()
    """Identities that two boards have used."""
    now_s: float = 0.0
    """When this was found, in Unix seconds."""

    @property
    def ok(self) -> bool:
        """Whether every process is up, the wanted run is under way or done, devices can be let in, and no two of them
        use one identity now."""
        alone = all(self.now_s - double.last_s > ALIVE_S for double in self.doubles)
        return self.ready and self.trouble is None and self.devices_trouble is None and alone

    def to_plain(self) -> dict[str, Any]:
        """What ``/healthz`` says, as plain values; the figures of Prometheus are not among them."""
        run = None
        if self.run is not None:
            run = {"name": self.run.name, "rounds_done": self.run.rounds_done, "rounds": self.run.rounds}
        twice = {double.client_id: twice_in_words(double.client_id) for double in self.doubles}
        troubles = {
            "trouble": self.trouble,
            "devices_trouble": self.devices_trouble,
            "devices_waiting": dict(self.devices_waiting),
            "identities_used_twice": twice,
        }
        return {"ok": self.ok, "processes": self.processes, "run": run, **troubles}


class HealthCollector(Collector):
    """The figures of ``Health`` in Prometheus' form."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """All metrics, read now."""
        health = self._health()
        up = GaugeMetricFamily("stonecrop_process_up", "1 where the process does its work.", labels=["process"])
        restarts = CounterMetricFamily("stonecrop_process_restarts", "Starts after a death.", labels=["process"])
        for name, process in health.processes.items():
            up.add_metric([name], float(bool(process["ready"])))
            restarts.add_metric([name], float(process["restarts"]))
        twice = GaugeMetricFamily("stonecrop_identities_used_twice", "Identities that two boards have used.")
        twice.add_metric([], float(len(health.doubles)))
        yield from (up, restarts, twice)
        if health.run is not None:
            yield from _run_metrics(health.run)


def _run_metrics(run: RunStatus) -> Iterator[Metric]:
    gauges = {
        "rounds": ("Rounds that the run has.", run.rounds),
        "rounds_done": ("Rounds finished.", run.rounds_done),
        "round_duration_seconds": ("Length of the newest round.", run.round_seconds),
        "epsilon_max": ("Largest epsilon that a client's ledger reported.", run.epsilon_max),
        "accuracy": ("Of the newest model (int8 where there is one) on the server's test set.", run.accuracy),
    }  # fmt: skip
    for name, (text, value) in gauges.items():
        if value is not None:
            metric = GaugeMetricFamily(f"stonecrop_{name}", text, labels=["run"])
            metric.add_metric([run.name], float(value))
            yield metric
    counters = {
        "uplink_bytes": ("Bytes of accepted updates.", run.uplink_bytes),
        "downlink_bytes": ("Bytes of global models sent.", run.downlink_bytes),
        "resumes": ("Times that the run went on after an interruption.", run.resumed),
    }
    for name, (text, count) in counters.items():
        counter = CounterMetricFamily(f"stonecrop_{name}", text, labels=["run"])
        counter.add_metric([run.name], float(count))
        yield counter
    left_out = CounterMetricFamily("stonecrop_left_out", "Clients left out of a round.", labels=["run", "kind"])
    for kind, count in run.left_out.items():
        left_out.add_metric([run.name, kind.removeprefix("client_")], float(count))
    seen = GaugeMetricFamily(
        "stonecrop_client_last_seen_timestamp_seconds", "Newest answer of a client.", labels=["run", "client"]
    )
    for client_id, client in run.clients.items():
        if client.last_seen is not None:
            seen.add_metric([run.name, client_id], client.last_seen)
    yield from (left_out, seen)


@contextmanager
def serve_health(health: Callable[[], Health], port: int) -> Iterator[int]:
    """Serve the endpoint on loopback while the context lasts; gives the port, a free one where 0 was asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HealthCollector(health))

    class HealthRequestHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                state = health()
                self._answer(200 if state.ok else 503, "application/json", json.dumps(state.to_plain()).encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            else:
                self._answer(404, "text/plain", b"here are /healthz and /metrics\n")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a scrape every few seconds is no news."""

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", port), HealthRequestHandler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
