"""Loopback is reached without a proxy, and all else that the user's variables say stays."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import pytest

from fl_core.process.loopback import keep_loopback_direct

ROOT = Path(__file__).resolve().parents[4]
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def variables_after(given: dict[str, str]) -> dict[str, str]:
    """What a process finds in its environment that one with the variables ``given`` has started."""
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    code = (
        "import subprocess, sys; from fl_core.process.loopback import keep_loopback_direct; keep_loopback_direct(); "
        f"subprocess.run([sys.executable, '-c', {show!r}], check=True)"
    )
    environment = {"PYTHONPATH": str(ROOT), **given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_what_is_started_inherits_the_exceptions_and_keeps_the_users_own() -> None:
    found = variables_after({"https_proxy": "http://proxy.example:3128", "NO_PROXY": "intranet.example, 10.0.0.0/8"})
    for name in ("no_proxy", "NO_PROXY"):
        assert found[name] == "intranet.example,10.0.0.0/8,localhost,127.0.0.1,::1"
    assert found["https_proxy"] == "http://proxy.example:3128"


@pytest.mark.parametrize("said", ["*", "localhost", "127.0.0.1,::1"])
def test_exceptions_that_are_there_already_are_not_doubled(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, said)
    keep_loopback_direct()
    hosts = urllib.request.getproxies()["no"].split(",")
    assert len(hosts) == len({*hosts}) == len({*said.split(","), "localhost", "127.0.0.1", "::1"})


@pytest.mark.parametrize("scheme", ["http", "socks5", "SOCKS5h"])
def test_flowers_client_goes_direct_on_loopback(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    for name in NAMES:
        for each in (name, name.upper()):
            monkeypatch.setenv(each, "" if name == "no_proxy" else f"{scheme}://proxy.example:3128")
    keep_loopback_direct()
    assert urllib.request.proxy_bypass("127.0.0.1:8100")
    with httpx.Client() as client, pytest.raises(httpx.ConnectError, match="refused"):
        client.get("http://127.0.0.1:9")
