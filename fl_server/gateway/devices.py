"""The registry of devices: who is enrolled with which certificates and which node key, and the one-time tokens.

One SQLite file that the service and the operator's commands open at the same time. The rule of admission
(``refusal``) stands here alone: a certificate that this registry issued, in its time, of an approved device, and
with that device's own node key. Times are Unix seconds and are arguments. A secret is kept as its hash only.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fl_core.errors import IdentityError
from fl_core.identity import check_client_id
from fl_server.gateway.authority import IssuedCertificate

DeviceStatus = Literal["pending", "approved", "revoked"]

_BUSY_TIMEOUT_S = 10.0
_SEEN_EVERY_S = 15.0  # last_seen is written at most this often: a poll must not cost a write
_RETRY_S = 900.0  # how long the device that used a token may repeat its request, had the answer been lost
_SCHEMA = """
CREATE TABLE IF NOT EXISTS devices (
    client_id TEXT PRIMARY KEY,
    node_key TEXT NOT NULL UNIQUE,      -- PEM
    status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'revoked')),
    enrolled_s REAL NOT NULL,
    last_seen_s REAL
);
CREATE TABLE IF NOT EXISTS certificates (
    fingerprint TEXT PRIMARY KEY,       -- SHA-256 of the DER form, hex
    serial TEXT NOT NULL,
    client_id TEXT NOT NULL REFERENCES devices,
    not_after_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tokens (
    hash TEXT PRIMARY KEY,              -- SHA-256 of the secret, hex
    client_id TEXT,
    auto_approve INTEGER NOT NULL,
    expires_s REAL NOT NULL,
    used_s REAL,
    used_by TEXT,
    used_key TEXT                       -- fingerprint of the TLS key that it was used for
);
CREATE TABLE IF NOT EXISTS retired_node_keys (node_key TEXT PRIMARY KEY, client_id TEXT NOT NULL);
"""


@dataclass(frozen=True)
class EnrolledDevice:
    """One device as the operator sees it; times in Unix seconds."""

    client_id: str
    status: DeviceStatus
    node_key: str
    enrolled_s: float
    last_seen_s: float | None
    certificate_ends_s: float | None


@dataclass(frozen=True)
class Enrolment:
    """What a token allows: for whom, and whether the device is let in without an operator's word."""

    client_id: str
    approved: bool


class DeviceRegistry:
    """The open registry at ``path``; made when it is missing. Threads may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> DeviceRegistry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_token(self, secret: bytes, expires_s: float, client_id: str | None, auto_approve: bool) -> None:
        """Remember a one-time token; only its hash is kept.

        Raises:
            IdentityError: ``client_id`` cannot be a name.
        """
        name = None if client_id is None else check_client_id(client_id)
        with self._transaction():
            self._db.execute(
                "INSERT INTO tokens (hash, client_id, auto_approve, expires_s) VALUES (?, ?, ?, ?)",
                (_hash(secret), name, int(auto_approve), expires_s),
            )

    def use_token(self, secret: bytes, tls_key: str, node_key: str, now_s: float) -> Enrolment:
        """Use a token up and put its device in. The same device may repeat this for a while, nobody else may.

        A token that names an enrolled device enrols it anew: its old certificates and its old node key end.

        Raises:
            IdentityError: unknown, used or expired token, or a node key of another device or of an ended enrolment.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT client_id, auto_approve, expires_s, used_s, used_by, used_key FROM tokens WHERE hash = ?",
                (_hash(secret),),
            ).fetchone()
            if row is None:
                raise IdentityError("enrolment token: unknown to this server")
            named, auto_approve, expires_s, used_s, used_by, used_key = row
            if used_s is not None:
                return self._repeated(used_s, used_by, used_key, tls_key, node_key, now_s)
            if now_s > expires_s:
                raise IdentityError("enrolment token: expired; ask for a new one")
            client_id = named or str(uuid.uuid4())
            self._check_node_key_is_free(node_key, client_id)
            self._put_device(client_id, node_key, "approved" if auto_approve else "pending", now_s)
            self._db.execute(
                "UPDATE tokens SET used_s = ?, used_by = ?, used_key = ? WHERE hash = ?",
                (now_s, client_id, tls_key, _hash(secret)),
            )
            return Enrolment(client_id, bool(auto_approve))

    def add_certificate(self, client_id: str, issued: IssuedCertificate, now_s: float) -> None:
        """Remember a certificate that was issued to ``client_id``; those that ended are forgotten."""
        with self._transaction():
            self._db.execute("DELETE FROM certificates WHERE client_id = ? AND not_after_s < ?", (client_id, now_s))
            self._db.execute(
                "INSERT INTO certificates (fingerprint, serial, client_id, not_after_s) VALUES (?, ?, ?, ?)",
                (issued.fingerprint, issued.serial, client_id, issued.not_after_s),
            )

    def refusal(self, fingerprint: str, node_key: str | None, now_s: float) -> str | None:
        """Why a request with this certificate and this node key (PEM) must not pass; None lets it pass.

        A device that passes, or that would but for its operator's approval, counts as seen.
        """
        with self._lock:
            row = self._db.execute(
                "SELECT d.client_id, d.status, d.node_key, d.last_seen_s, c.not_after_s FROM certificates c "
                "JOIN devices d USING (client_id) WHERE c.fingerprint = ?",
                (fingerprint,),
            ).fetchone()
        if row is None:
            return "this certificate is not one of an enrolled device"
        client_id, status, own_node_key, last_seen_s, not_after_s = row
        if now_s > not_after_s:
            return "this certificate has expired; enrol anew"
        if status == "revoked":
            return "this device is revoked"
        if node_key is None:
            return "the node key is missing: run the SuperNode with its key"
        if node_key != own_node_key:
            return "this node key does not belong to this certificate"
        if last_seen_s is None or now_s - last_seen_s >= _SEEN_EVERY_S:
            # A full disk must not lock the fleet out.
            with suppress(sqlite3.OperationalError), self._transaction():
                self._db.execute("UPDATE devices SET last_seen_s = ? WHERE client_id = ?", (now_s, client_id))
        return None if status == "approved" else "this device waits for the operator's approval"

    def owner_of(self, fingerprint: str, now_s: float) -> EnrolledDevice:
        """The device that may renew with this certificate.

        Raises:
            IdentityError: unknown or expired certificate, or a revoked device.
        """
        with self._lock:
            row = self._db.execute(
                "SELECT client_id FROM certificates WHERE fingerprint = ? AND not_after_s >= ?", (fingerprint, now_s)
            ).fetchone()
        if row is None:
            raise IdentityError("this certificate is not one of an enrolled device, or it has expired")
        device = self.device(row[0])
        if device.status == "revoked":
            raise IdentityError("this device is revoked")
        return device

    def approve(self, client_id: str) -> EnrolledDevice:
        """Let a waiting device in.

        Raises:
            IdentityError: unknown, or revoked: that one has to enrol anew.
        """
        with self._transaction():
            if self.device(client_id).status == "revoked":
                raise IdentityError(f"device {client_id}: revoked; create a token with its name to enrol it anew")
            self._db.execute("UPDATE devices SET status = 'approved' WHERE client_id = ?", (client_id,))
        return self.device(client_id)

    def revoke(self, client_id: str) -> EnrolledDevice:
        """Lock a device out from its next request on; tokens that name it and were not used go with it.

        Raises:
            IdentityError: unknown.
        """
        with self._transaction():
            self.device(client_id)
            self._db.execute("UPDATE devices SET status = 'revoked' WHERE client_id = ?", (client_id,))
            self._db.execute("DELETE FROM tokens WHERE client_id = ? AND used_s IS NULL", (client_id,))
        return self.device(client_id)

    def device(self, client_id: str) -> EnrolledDevice:
        """One device by its name.

        Raises:
            IdentityError: unknown.
        """
        for device in self._devices("WHERE d.client_id = ?", client_id):
            return device
        raise IdentityError(f"device {client_id}: unknown; 'fl-server devices list' names them all")

    def devices(self) -> list[EnrolledDevice]:
        """All devices, by name."""
        return self._devices("ORDER BY client_id")

    def _devices(self, which: str, *values: str) -> list[EnrolledDevice]:
        with self._lock:
            rows = self._db.execute(
                "SELECT client_id, status, node_key, enrolled_s, last_seen_s, "
                "(SELECT MAX(not_after_s) FROM certificates c WHERE c.client_id = d.client_id) "
                f"FROM devices d {which}",
                values,
            ).fetchall()
        return [EnrolledDevice(*row) for row in rows]

    def retired_node_keys(self) -> list[tuple[str, str]]:
        """(client_id, node key) of revoked devices and of keys that a new enrolment replaced."""
        with self._lock:
            rows = self._db.execute(
                "SELECT client_id, node_key FROM retired_node_keys WHERE node_key NOT IN (SELECT node_key FROM devices)"
                " UNION SELECT client_id, node_key FROM devices WHERE status = 'revoked' ORDER BY 1, 2"
            ).fetchall()
        return [(str(client_id), str(node_key)) for client_id, node_key in rows]

    def _put_device(self, client_id: str, node_key: str, status: DeviceStatus, now_s: float) -> None:
        old = self._db.execute("SELECT node_key FROM devices WHERE client_id = ?", (client_id,)).fetchone()
        if old is not None:
            self._db.execute("DELETE FROM certificates WHERE client_id = ?", (client_id,))
            if old[0] != node_key:
                self._db.execute("INSERT OR IGNORE INTO retired_node_keys VALUES (?, ?)", (old[0], client_id))
        self._db.execute(
            "INSERT INTO devices (client_id, node_key, status, enrolled_s) VALUES (?, ?, ?, ?) ON CONFLICT (client_id) "
            "DO UPDATE SET node_key = excluded.node_key, status = excluded.status, enrolled_s = excluded.enrolled_s",
            (client_id, node_key, status, now_s),
        )

    def _check_node_key_is_free(self, node_key: str, client_id: str) -> None:
        taken = self._db.execute(
            "SELECT 1 FROM devices WHERE node_key = ? AND (client_id != ? OR status = 'revoked') "
            "UNION SELECT 1 FROM retired_node_keys WHERE node_key = ?",
            (node_key, client_id, node_key),
        ).fetchone()
        if taken:  # a SuperLink never takes a key again that it has once dropped
            raise IdentityError("node public key: it is in use or was used up; make a new one")

    def _repeated(
        self, used_s: float, used_by: str, used_key: str, tls_key: str, node_key: str, now_s: float
    ) -> Enrolment:
        device = self.device(used_by)
        same = (used_key, device.node_key) == (tls_key, node_key) and now_s - used_s <= _RETRY_S
        if not same or device.status == "revoked":
            raise IdentityError("enrolment token: already used; ask for a new one")
        return Enrolment(used_by, device.status == "approved")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
