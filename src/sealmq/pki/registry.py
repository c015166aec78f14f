"""The registry: which devices there are and every certificate they were given, in one SQLite file.

It knows nothing of keys or of how certificates are made; it remembers what it is told and keeps it across a power cut.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, Environment, NotSo
from sealmq.secretfiles import raise_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealmq.datafolder import DataFolder

SCHEMA_VERSION = 1
_LOG_INDEX_BYTES = 32 * 1024  # the least that SQLite allots to the index of its write-ahead log

# Times are whole seconds since the Unix epoch, UTC. `issuer` is the authority key identifier in hex: with the serial it
# names a certificate for ever, and it stays the same when an issuing CA is reissued with its key.
_SCHEMA = """
CREATE TABLE devices (
    id         TEXT PRIMARY KEY,
    profile    TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE certificates (
    serial     TEXT NOT NULL,
    device_id  TEXT NOT NULL REFERENCES devices (id),
    issuer     TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    sha256     TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    status     TEXT NOT NULL,
    PRIMARY KEY (issuer, serial)
) STRICT;
CREATE INDEX certificates_of_device ON certificates (device_id, not_after);
"""


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One certificate of a device. `serial`, `issuer` and `sha256` (of the DER form) are lower-case hex."""

    serial: str
    device_id: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str
    created_at: datetime
    status: str = "active"


@dataclass(frozen=True, slots=True)
class Device:
    """One device with its certificates, the one that lasts longest first. `status` is `active`."""

    id: str
    profile: str
    status: str
    created_at: datetime
    certificates: tuple[CertificateRecord, ...] = ()


class Registry:
    """An open registry; may be shared by threads. Close it, or use it as a context manager.

    Every change is one transaction and on disk (WAL, synchronous=FULL) when the call, or the enclosing `transaction`,
    ends. Raises `Environment` when the disk is full or the system forbids, `DataFolderError` when the file is damaged
    or newer.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """For `open` only."""
        self._connection = connection
        self._path = path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: DataFolder) -> Registry:
        """The registry of a data folder, made when there is none.

        Raises `DataFolderError` with code `registry-newer` or `registry-damaged`, `Environment` as the class says.
        """
        path = folder.registry_path
        try:  # SQLite would make it with the umask's mode; its -wal and -shm files follow this one
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise_environment(error, path, doing="open the registry")
        with _translated(path):
            connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        registry = cls(connection, path)
        try:
            registry._prepare()
        except BaseException:
            connection.close()
            raise
        return registry

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block, or none of them; an exception rolls back. Blocks may nest, the outermost counts."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            with _translated(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._connection.rollback()  # SQLite may have done it already, on a full disk for one
                    raise

    def add_device(self, device_id: str, *, profile: str, now: datetime) -> Device:
        """Enter a device with status `active`. Raises `NotSo` with code `device-exists` when the id is taken."""
        with self.transaction():
            if self._connection.execute("SELECT 1 FROM devices WHERE id = ?", (device_id,)).fetchone():
                raise NotSo(
                    f"device {device_id} exists already",
                    mend=f"choose another id, or see it with `sealmq device show {device_id}`",
                    code="device-exists",
                )
            self._connection.execute(
                "INSERT INTO devices (id, profile, status, created_at) VALUES (?, ?, 'active', ?)",
                (device_id, profile, _seconds(now)),
            )
        return self.device(device_id)

    def record_certificate(self, record: CertificateRecord) -> None:
        """Remember a certificate of a device that is in the registry."""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO certificates"
                " (serial, device_id, issuer, not_before, not_after, sha256, created_at, status)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.serial,
                    record.device_id,
                    record.issuer,
                    _seconds(record.not_before),
                    _seconds(record.not_after),
                    record.sha256,
                    _seconds(record.created_at),
                    record.status,
                ),
            )

    def devices(self) -> list[Device]:
        """Every device with its certificates, by id."""
        with self._lock, _translated(self._path):
            rows = self._connection.execute("SELECT * FROM devices ORDER BY id").fetchall()
            certificates: dict[str, list[CertificateRecord]] = {}
            for row in self._connection.execute("SELECT * FROM certificates ORDER BY not_after DESC, created_at DESC"):
                certificates.setdefault(row["device_id"], []).append(_record(row))
        return [_device(row, certificates.get(row["id"], [])) for row in rows]

    def device(self, device_id: str) -> Device:
        """The device of that id. Raises `NotSo` with code `device-unknown`."""
        with self._lock, _translated(self._path):
            row = self._connection.execute("SELECT * FROM devices WHERE id = ?", (device_id,)).fetchone()
            if row is None:
                raise NotSo(
                    f"device {device_id} does not exist",
                    mend=f"see `sealmq device list`, or make it with `sealmq device add {device_id}`",
                    code="device-unknown",
                )
            found = self._connection.execute(
                "SELECT * FROM certificates WHERE device_id = ? ORDER BY not_after DESC, created_at DESC", (device_id,)
            ).fetchall()
        return _device(row, [_record(certificate) for certificate in found])

    def _prepare(self) -> None:
        with self._lock, _translated(self._path):
            self._connection.row_factory = sqlite3.Row
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise DataFolderError(
                    f"registry {self._path} was written by a newer sealmq (schema {version}, this one knows"
                    f" {SCHEMA_VERSION})",
                    mend="run the newer sealmq, or name another folder with --data",
                    code="registry-newer",
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:
            with self.transaction():
                # looked at again inside: another process may have made it since
                if self._connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _SCHEMA.split(";\n"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _has_no_room(path)):
            raise Environment(
                f"disk is full: cannot write registry {path}",
                mend="free some space there and run the command again",
                code="disk-full",
            ) from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Environment(
                f"registry {path} is held by another process",
                mend="wait for it to end and run the command again",
                code="registry-busy",
            ) from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise DataFolderError(
                f"registry {path} is damaged: {error}", mend="restore it from a backup", code="registry-damaged"
            ) from error
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM}:
            raise Environment(
                f"registry {path} cannot be used: {error}",
                mend="check owner, mode and file system of the data folder",
                code="registry-unusable",
            ) from error
        raise


def _has_no_room(path: Path) -> bool:
    """Whether the disk is too full for the index of SQLite's log, which it reports as no more than an I/O error."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LOG_INDEX_BYTES


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _record(row: sqlite3.Row) -> CertificateRecord:
    return CertificateRecord(
        serial=row["serial"],
        device_id=row["device_id"],
        issuer=row["issuer"],
        not_before=_moment(row["not_before"]),
        not_after=_moment(row["not_after"]),
        sha256=row["sha256"],
        created_at=_moment(row["created_at"]),
        status=row["status"],
    )


def _device(row: sqlite3.Row, certificates: list[CertificateRecord]) -> Device:
    return Device(row["id"], row["profile"], row["status"], _moment(row["created_at"]), tuple(certificates))
