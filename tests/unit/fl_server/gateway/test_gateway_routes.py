"""What the table of routes says is what nginx is told: each row is one location, and there is no other."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fl_server.gateway.authority import init_authority
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import GatewaySettings, write_nginx_conf
from fl_server.gateway.routes import ROUTES, GatewayRoute
from fl_server.gateway.service import SECRET_HEADER


@pytest.fixture
def locations(tmp_path: Path) -> dict[str, list[str]]:
    """The directives of each location that is more than one line, by its argument."""
    init_authority(tmp_path, [], datetime(2026, 7, 1, tzinfo=timezone.utc))
    text = write_nginx_conf(tmp_path, GatewaySettings(8443, 8444, "https://127.0.0.1:8000")).read_text()
    blocks = re.findall(r"^        location (.+) \{\n((?:            .*\n)+)        \}$", text, re.M)
    return {argument: [line.strip() for line in body.splitlines()] for argument, body in blocks}


def test_nginx_has_the_locations_of_the_table_and_the_one_it_asks_itself(locations: dict[str, list[str]]) -> None:
    assert sorted(locations) == sorted([*(route.location for route in ROUTES), "= /internal/auth"])
    assert locations["= /internal/auth"][0] == "internal;"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_row_decides_methods_authority_and_upstream(route: GatewayRoute, locations: dict[str, list[str]]) -> None:
    lines = locations[route.location]
    assert lines[0] == f"limit_except {' '.join(route.methods)} {{ deny all; }}"
    assert ("auth_request /internal/auth;" in lines) == (route.asker == "approved device")
    scheme = "https" if route.upstream == "superlink" else "http"
    assert lines[-1] == f"proxy_pass {scheme}://{route.upstream}{route.upstream_path};"
    bounded = [line for line in lines if f"client_max_body_size {route.max_body_bytes};" in line]
    assert len(bounded) == (route.max_body_bytes is not None)


def test_what_leads_to_the_superlink_is_authorised_and_never_sees_the_services_secret(
    locations: dict[str, list[str]],
) -> None:
    for route in ROUTES:
        if route.upstream == "superlink":
            assert route.asker == "approved device"
            assert SECRET_HEADER not in " ".join(locations[route.location])


def test_the_secret_between_nginx_and_the_service_is_made_once(tmp_path: Path) -> None:
    init_authority(tmp_path, [], datetime(2026, 7, 1, tzinfo=timezone.utc))
    settings = GatewaySettings(8443, 8444, "http://127.0.0.1:8000")
    first = write_nginx_conf(tmp_path, settings).read_bytes()
    secret = GatewayFiles(tmp_path).secret.read_text()
    assert secret in first.decode()
    assert write_nginx_conf(tmp_path, settings).read_bytes() == first
