"""The operator's commands over a server's folder: what they print for people and for scripts."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_core.errors import IdentityError
from fl_core.identity import EnrolmentToken
from fl_server.gateway.authority import init_authority
from fl_server.gateway.commands import devices_app, token_app
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.layout import GatewayFiles
from fl_server.gateway.operate import approved_keys


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init_authority(tmp_path, [], datetime.now(timezone.utc))
    return tmp_path


def out(app: object, *arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_a_token_to_a_revocation(root: Path) -> None:
    made = json.loads(out(token_app, "create", str(root), "--client", "pi-1", "--json"))
    assert made["client_id"] == "pi-1"
    assert not made["auto_approve"]
    token = EnrolmentToken.parse(made["token"])
    with DeviceRegistry(GatewayFiles(root).devices) as registry:
        enrolment = registry.use_token(token.secret, "tls", "node key", datetime.now(timezone.utc).timestamp())
        assert enrolment.client_id == "pi-1"
    assert approved_keys(root) == []
    (listed,) = json.loads(out(devices_app, "list", str(root), "--json"))["devices"]
    assert (listed["client_id"], listed["status"], listed["last_seen"]) == ("pi-1", "pending", None)
    assert out(devices_app, "approve", str(root), "pi-1") == "pi-1 is approved\n"
    assert [key.pem for key in approved_keys(root)] == [b"node key"]
    assert json.loads(out(devices_app, "revoke", str(root), "pi-1", "--json"))["status"] == "revoked"
    assert approved_keys(root) == []
    assert "revoked" in out(devices_app, "list", str(root))


def test_a_token_for_people_is_one_line(root: Path) -> None:
    text = out(token_app, "create", str(root), "--auto-approve")
    assert text.count("\n") == 1
    EnrolmentToken.parse(text)


@pytest.mark.parametrize("hours", ["nan", "inf", "-inf", "-1", "0", "1e9"])
def test_a_token_holds_for_a_number_of_hours(root: Path, hours: str) -> None:
    result = CliRunner().invoke(token_app, ["create", str(root), "--hours", hours], catch_exceptions=False)
    assert result.exit_code == 2
    assert "'--hours'" in result.output


def test_errors_reach_the_command_that_mounts_these(root: Path, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="device nobody: unknown"):
        out(devices_app, "approve", str(root), "nobody")
    with pytest.raises(IdentityError, match="fl-server init"):
        out(devices_app, "list", str(tmp_path / "elsewhere"))
