"""A server's folder is made whole or not at all, for a host that a certificate can hold."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from fl_core.errors import ConfigError
from fl_server.cli import app
from fl_server.deploy.home import SETTINGS_FILE, ServerHome, Settings
from fl_server.deploy.processes import refuse_taken_ports
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.nginx import GatewaySettings, write_nginx_conf


def init(folder: Path, *options: object) -> Result:
    return CliRunner().invoke(app, ["init", str(folder), *map(str, options)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("given", "host", "listen"),
    [
        ("bücher.example", "xn--bcher-kva.example", "0.0.0.0"),
        ("Fleet.Example.", "fleet.example", "0.0.0.0"),
        ("fd00:0::5", "fd00::5", "::"),
        ("10.0.0.7", "10.0.0.7", "0.0.0.0"),
    ],
)
def test_settings_and_certificate_hold_the_form_that_devices_check(
    tmp_path: Path, given: str, host: str, listen: str
) -> None:
    made = init(tmp_path / "server", "--host", given, "--json")
    assert made.exit_code == 0
    home = ServerHome.open(Path(json.loads(made.stdout)["folder"]))
    assert (home.settings.host, home.settings.listen) == (host, listen)
    certificate = x509.load_pem_x509_certificates(GatewayFiles(home.folder).server_certificate.read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert host in [str(name.value) for name in names]


@pytest.mark.parametrize(
    "host", ["https://fleet.example", "pi gateway", "[fd00::5]", "", "fleet.example:8443", "0.0.0.0", "a_b", "10.1"]
)
def test_what_is_no_host_makes_nothing_and_says_what_was_expected(tmp_path: Path, host: str) -> None:
    refused = init(tmp_path / "server", "--host", host)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "host: expected a DNS name such as fleet.example, or an IPv4 or IPv6 address, got" in refused.stderr
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("listen", ["", "localhost", "[::1]", "fe80::1%lo"])
def test_the_gateway_listens_on_an_address(tmp_path: Path, listen: str) -> None:
    refused = init(tmp_path / "server", "--listen", listen)
    assert refused.exit_code == 2
    assert "listen: expected an IPv4 or IPv6 address" in refused.stderr
    assert not (tmp_path / "server").exists()


def test_a_folder_that_holds_something_else_is_left_alone_and_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).touch()
    refused = init(tmp_path)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (8, 1)
    assert f"{tmp_path}: expected a new or an empty folder, found a, b, c and 1 more" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
    assert init(tmp_path / "a").exit_code == 8
    assert init(tmp_path / "new").exit_code == 0
    assert init(tmp_path / "new").exit_code == 8


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("host: https://fleet.example", "host: expected a DNS name"),
        ("listen: everywhere", "listen: expected an IPv4 or IPv6 address"),
        ("gateway_prot: 8443", "gateway_prot: there is no such field"),
        ("gateway_port: none", "gateway_port: .*got 'none'"),
    ],
)
def test_a_field_that_was_edited_wrongly_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / SETTINGS_FILE).write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=f"{SETTINGS_FILE}: {words}"):
        ServerHome.open(tmp_path)


def test_taken_ports_and_a_foreign_address_are_named_together(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        home = ServerHome(tmp_path, Settings(health_port=port, listen="192.0.2.1"))
        with pytest.raises(ConfigError) as refused:
            refuse_taken_ports(home)
    assert refused.value.problems == (
        f"{tmp_path / SETTINGS_FILE}: listen: expected an address of this machine, got 192.0.2.1",
        f"{tmp_path / SETTINGS_FILE}: health_port: expected a free port, something listens on {port} already",
    )


@pytest.mark.parametrize(
    ("listen", "line"),
    [
        ("0.0.0.0", "listen 0.0.0.0:8443 ssl backlog=1024;"),
        ("10.0.0.7", "listen 10.0.0.7:8443 ssl backlog=1024;"),
        ("fd00::5", "listen [fd00::5]:8443 ssl backlog=1024;"),
        ("::", "listen [::]:8443 ssl backlog=1024 ipv6only=off;"),
    ],
)
def test_nginx_listens_where_the_settings_say(tmp_path: Path, listen: str, line: str) -> None:
    assert init(tmp_path / "server").exit_code == 0
    settings = GatewaySettings(8443, 8101, "https://127.0.0.1:8100", listen)
    assert line in write_nginx_conf(tmp_path / "server", settings).read_text()


@pytest.mark.parametrize(
    "content", [b"\xff", "host: bücher".encode("latin-1"), b"[1, 2]", b"3", b"{a: " * 3000, b"a: b: c"]
)
def test_settings_that_are_none_are_one_line_with_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / SETTINGS_FILE
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}: (expected fields by name|not readable as YAML)") as wrong:
        ServerHome.open(tmp_path)
    assert ": :" not in str(wrong.value)


def test_a_status_of_a_server_whose_wish_is_damaged_names_the_file(tmp_path: Path) -> None:
    assert init(tmp_path / "server").exit_code == 0
    (tmp_path / "server" / "wanted.json").write_bytes(b"[1]")
    told = CliRunner().invoke(app, ["status", str(tmp_path / "server")])
    assert told.exit_code == 8
    assert "wanted.json: expected a JSON object, got list" in told.stderr
