"""Approved devices are let in and retired ones out, whatever of it failed before, for others, or on a full disk."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fl_core.errors import RoundError
from fl_server.deploy import registrar as module
from fl_server.deploy.home import ServerHome, Settings
from fl_server.deploy.registrar import NodeRegistrar
from fl_server.gateway.authority import init_authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.layout import GatewayFiles
from support.fleet import eventually

LIMIT_S = 60


@dataclass
class OwnSuperLink:
    """A SuperLink that takes each key once for ever and knows which nodes it has, as the real one."""

    nodes_in: dict[bytes, str] = field(default_factory=dict)
    taken: list[bytes] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)

    def nodes(self) -> dict[bytes, str]:
        return dict(self.nodes_in)

    def register(self, public_key: bytes, name: str) -> str:
        if name in self.refuses or public_key in self.taken:
            raise RoundError("flower: RegisterNode: refused with Public key already in use.")
        self.taken.append(public_key)
        self.nodes_in[public_key] = str(len(self.taken))
        return self.nodes_in[public_key]

    def unregister(self, node_id: str) -> None:
        key = next((key for key, known in self.nodes_in.items() if known == node_id), None)
        if key is None:
            raise RoundError("flower: UnregisterNode: refused with Node ID not found for account.")
        del self.nodes_in[key]


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    init_authority(tmp_path, [], datetime.now(timezone.utc))
    return ServerHome(tmp_path, Settings())


def put_in(home: ServerHome, *names: str) -> None:
    with DeviceRegistry(GatewayFiles(home.folder).devices) as registry:
        for name in names:
            registry.add_token(name.encode(), 100.0, name, True)
            registry.use_token(name.encode(), f"tls-{name}", f"key-{name}", 0.0)


def revoke(home: ServerHome, name: str) -> None:
    with DeviceRegistry(GatewayFiles(home.folder).devices) as registry:
        registry.revoke(name)


def registrar(home: ServerHome, superlink: OwnSuperLink) -> NodeRegistrar:
    return NodeRegistrar(home, superlink)  # type: ignore[arg-type]


def let_in(superlink: OwnSuperLink) -> list[bytes]:
    return sorted(superlink.nodes_in)


def test_devices_come_in_and_go_and_nothing_is_told_twice(home):
    superlink = OwnSuperLink()
    each = registrar(home, superlink)
    put_in(home, "a", "b")
    assert (each.sync(), each.sync()) == (2, 0)
    revoke(home, "a")
    assert (each.sync(), each.sync()) == (1, 0)
    assert let_in(superlink) == [b"key-b"]


def test_a_device_that_is_refused_holds_up_no_other_and_is_named(home):
    superlink = OwnSuperLink(refuses={"a"})
    each = registrar(home, superlink)
    put_in(home, "z")
    each.sync()
    put_in(home, "a", "b")
    revoke(home, "z")
    with pytest.raises(RoundError, match=r"^device a: "):
        each.sync()
    assert let_in(superlink) == [b"key-b"]
    superlink.refuses.clear()
    assert each.sync() == 1
    assert let_in(superlink) == [b"key-a", b"key-b"]


def test_a_server_that_died_right_after_it_told_the_superlink_goes_on(home):
    superlink = OwnSuperLink()
    put_in(home, "a", "b", "c")
    superlink.register(b"key-a", "a")
    assert registrar(home, superlink).sync() == 2
    revoke(home, "b")
    superlink.unregister("2")
    assert registrar(home, superlink).sync() == 0
    assert let_in(superlink) == [b"key-a", b"key-c"]


def test_a_device_that_is_revoked_while_the_server_is_down_is_let_out_by_the_next_one(home):
    superlink = OwnSuperLink()
    put_in(home, "a")
    registrar(home, superlink).sync()
    revoke(home, "a")
    assert registrar(home, superlink).sync() == 1
    assert let_in(superlink) == []


def test_a_registry_that_cannot_be_read_is_said_once_and_tried_again(home, monkeypatch, caplog):
    monkeypatch.setattr(module, "SYNC_EVERY_S", 0.01)
    looks = []
    approved_keys = module.approved_keys
    monkeypatch.setattr(module, "approved_keys", lambda folder: (looks.append(1), approved_keys(folder))[1])
    put_in(home, "a")
    registry = GatewayFiles(home.folder).devices
    registry.rename(registry.with_suffix(".away"))
    registry.mkdir()  # SQLite cannot open it, nor write it, as on a full disk
    superlink = OwnSuperLink()
    each, ready, stop = registrar(home, superlink), threading.Event(), threading.Event()
    ready.set()
    keeper = threading.Thread(target=each.keep, args=(ready, stop))
    with caplog.at_level(logging.WARNING):
        keeper.start()
        try:
            eventually(lambda: len(looks) > 3, LIMIT_S, "several looks")
            assert "unable to open" in str(each.trouble)
            assert [record.message for record in caplog.records] == [f"devices: {each.trouble}"]
            registry.rmdir()
            registry.with_suffix(".away").rename(registry)
            eventually(lambda: let_in(superlink) == [b"key-a"], LIMIT_S, "the device")
            eventually(lambda: each.trouble is None, LIMIT_S, "no trouble")
        finally:
            stop.set()
            keeper.join(LIMIT_S)
