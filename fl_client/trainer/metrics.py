"""What a board says of itself to its owner: Prometheus text at ``/metrics`` and ``/healthz``, on loopback alone.

The figures are private: they say what the device's data has spent and when it was at work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fl_core.errors import ConfigError
from fl_core.process.ports import LOOPBACK

Status = Callable[[], Mapping[str, Any]]

_COUNTERS = {
    "starts": "Starts of the trainer since the device was set up; all but the first are restarts.",
    "tasks": "Tasks that were answered with a result.",
    "refused": "Plans that the device refused.",
    "failed": "Tasks that ended in an error.",
}
_GAUGES = {
    "uptime_s": ("uptime_seconds", "Seconds since this start of the trainer."),
    "open": ("open_tasks", "Tasks that run or wait."),
    "last_round": ("last_round", "Round of the last task that was answered."),
    "last_task_time": ("last_task_timestamp_seconds", "When the last task was answered, in seconds since 1970."),
}


class _StatusCollector(Collector):
    """Asks ``status`` anew at each scrape."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Every figure of the status of this moment, as prometheus_client asks for them."""
        found = self._status()
        for key, words in _COUNTERS.items():
            yield CounterMetricFamily(f"stonecrop_trainer_{key}", words, value=found[key])
        for key, (name, words) in _GAUGES.items():
            yield GaugeMetricFamily(f"stonecrop_trainer_{name}", words, value=found[key])
        yield from _privacy_metrics(found["privacy"])
        yield from _process_metrics(found["processes"])


def _privacy_metrics(privacy: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "stonecrop_noise_is_secret",
        "0 where noise comes from named seeds: the device is not private, and no epsilon is given.",
        value=float(not privacy["simulated"]),
    )
    for key, name, words in (
        ("epsilon", "epsilon_spent", "Epsilon that the device's data has spent, over all runs."),
        ("cap", "epsilon_cap", "Most that its policy lets it ever spend."),
    ):
        if privacy[key] is not None:
            family = GaugeMetricFamily(f"stonecrop_{name}", words, labels=["delta", "simulated"])
            family.add_metric([f"{privacy['delta']:g}", str(privacy["simulated"]).lower()], privacy[key])
            yield family


def _process_metrics(processes: Mapping[str, tuple[bool, int]]) -> Iterator[Metric]:
    """The names are those of a server's own metrics."""
    up = GaugeMetricFamily("stonecrop_process_up", "1 where the process runs.", labels=["process"])
    restarts = CounterMetricFamily("stonecrop_process_restarts", "Starts after a death.", labels=["process"])
    for name, (runs, count) in processes.items():
        up.add_metric([name], float(runs))
        restarts.add_metric([name], float(count))
    yield from (up, restarts)


def metrics_text(status: Status) -> bytes:
    """The figures of ``status`` as Prometheus text."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


def health(status: Status) -> tuple[int, bytes]:
    """200, or 503 with a line for each process of the board that does not run, and why its server has no use for it.

    As services the parts have no supervisor that would say; then this means that the trainer answers.
    """
    found = status()
    wrong = [f"{name} does not run" for name, (runs, _) in found["processes"].items() if not runs]
    wrong += filter(None, [found["server_trouble"]])
    return (503, "".join(f"{line}\n" for line in wrong).encode()) if wrong else (200, b"ok\n")


@contextmanager
def serve_metrics(port: int | None, status: Status) -> Iterator[None]:
    """Answer on loopback port ``port`` while the body runs; None serves nothing.

    Raises:
        ConfigError: the port is taken.
    """
    if port is None:
        yield
        return
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), _handler(status))
    except OSError as error:
        raise ConfigError(f"--metrics-port: expected a free port, {port} cannot be used ({error})") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(status: Status) -> type[BaseHTTPRequestHandler]:
    pages: Mapping[str, tuple[str, Callable[[], tuple[int, bytes]]]] = {
        "/metrics": ("text/plain; version=0.0.4; charset=utf-8", lambda: (200, metrics_text(status))),
        "/healthz": ("text/plain; charset=utf-8", lambda: health(status)),
    }

    class Handler(BaseHTTPRequestHandler):
        """Two pages and nothing else."""

        def do_GET(self) -> None:
            """Answer a page, 404 for another, 500 where the figures cannot be read (a damaged ledger)."""
            kind, page = pages.get(self.path, ("", None))
            if page is None:
                self.send_error(404)
                return
            try:
                code, body = page()
            except Exception as error:
                self.send_error(500, type(error).__name__)
                return
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A scrape each few seconds is no news."""

    return Handler
